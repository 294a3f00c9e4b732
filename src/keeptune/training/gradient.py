"""The gradient of one step, accumulated over its batches and over all processes.

The result is the gradient of the step's mean loss over target tokens, however many batches the step has. For that, the
loss of each token is scaled before anything is summed. With several processes, each computes its share of the batches,
and an all-reduce sums the gradients.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.errors import TrainingError
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.out_of_memory import is_out_of_memory
from keeptune.models.sharding import ShardedModel
from keeptune.training.batches import REPLAY_KIND, Batch, TokenizedExample
from keeptune.training.distributed import DistributedContext
from keeptune.training.objective import Objective, collate, collate_kl_positions, kl_positions
from keeptune.training.packing import packs_rows
from keeptune.training.step_statistics import StepStatistics

INITIAL_LOSS_SCALE = 2.0**16
"""The loss scale that training in half precision starts with. It is halved when a gradient overflows."""


class GradientAccumulator:
    """Computes gradients of a model's trainable parameters, step by step, over one list of examples."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[TokenizedExample],
        settings: TrainSection,
        retain: RetainSection,
        seed: int,
        checkpointing: ActivationCheckpointing,
        context: DistributedContext,
        sharded_model: ShardedModel | None,
    ) -> None:
        self.peft_model, self.examples, self.settings, self.seed = model, examples, settings, seed
        self.retain, self.kl_weight = retain, retain.kl_weight
        self.checkpointing, self.context, self.sharded_model = checkpointing, context, sharded_model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.objective = Objective(model, retain)
        self.packs_rows = packs_rows(self.objective)
        self.loss_scale = initial_loss_scale(model)

    def accumulate(
        self, step_index: int, batches: Sequence[Sequence[Batch]], token_weight: float
    ) -> tuple[StepStatistics, float]:
        """Computes the gradient of a step into the parameters' `grad`, clipped to the recipe's norm.

        In half precision, small gradients would underflow, so the loss is multiplied by the loss scale. If a gradient
        overflows, the scale is halved and the step is computed again.

        Args:
            step_index: the index of the step, from 0.
            batches: the batches of each process, in order of rank.
            token_weight: the weight of each target token in the summed loss.

        Returns:
            The step's statistics, and the norm of the gradient before clipping. If a loss was not finite, the
            statistics name the batch, the norm is NaN and there is no gradient.
        """
        self.objective.train()
        while True:
            statistics = self._accumulate_once(step_index, batches, token_weight)
            if statistics.non_finite_batch:
                return statistics, math.nan
            for parameter in self.parameters:
                if parameter.grad is not None and self.loss_scale != 1:
                    parameter.grad /= self.loss_scale
            norm = float(nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
            if math.isfinite(norm) or self.loss_scale <= 1:
                return statistics, norm
            self.loss_scale /= 2
            self.objective.zero_grad()

    def _accumulate_once(
        self, step_index: int, batches: Sequence[Sequence[Batch]], token_weight: float
    ) -> StepStatistics:
        """One attempt at a step: the gradients of all processes, still multiplied by the loss scale."""
        rank = self.context.rank
        rows = [self.examples[i] for assigned in batches for batch in assigned for i in batch]
        weights = self.loss_scale * token_weight, self.loss_scale * self._kl_position_weight(rows)
        if self.context.world_size > 1 or self.device.type != "cpu":
            # Dropout must differ between processes and be the same after an interruption. A checkpoint holds the
            # random state of rank 0's CPU only.
            torch.manual_seed(random.Random(f"{self.seed}/{step_index}/{rank}").getrandbits(63))
        local = StepStatistics()
        for batch in batches[rank]:
            kinds, losses, divergences = self._backward(batch, *weights)
            local.add(kinds, losses, divergences)
            if not all(bool(torch.isfinite(values).all()) for values in (losses, divergences)):
                local.non_finite_batch = local.non_finite_batch or batch
        if self.sharded_model:
            # Gathering weights is collective. A process with fewer batches computes one row with weight 0 instead.
            for _ in range(max(map(len, batches)) - len(batches[rank])):
                self._backward(batches[0][0][:1], 0.0, 0.0)
        total = StepStatistics()
        for statistics in self.context.all_gather(local):
            total.merge(statistics)
        if not total.non_finite_batch:
            self.context.all_reduce_gradients(self.parameters)
        return total

    def _kl_position_weight(self, rows: Sequence[TokenizedExample]) -> float:
        """The weight of the divergence at each position of the KL term in a step."""
        if not self.retain.kl_weight:
            return 0.0
        return self.kl_weight / max(1, sum(len(kl_positions(row, self.retain.kl_tokens)) for row in rows))

    def _backward(self, batch: Batch, token_weight: float, kl_weight: float) -> tuple[list[str], Tensor, Tensor]:
        """Adds the gradient of one batch.

        Returns:
            The kind and the loss of each target token, and the divergence at each position of the KL term.
        """
        rows = [self.examples[i] for i in batch]
        inputs, kinds = collate(rows, token_weight, self.device)
        positions = (
            collate_kl_positions(rows, self.retain.kl_tokens, kl_weight, self.device) if self.retain.kl_weight else None
        )
        if positions and not len(positions.rows) and not self.sharded_model:
            positions = None  # With sharding, the base's forward pass stays, because gathering weights is collective.
        lengths = [len(row.tokens) for row in rows] if self.packs_rows else None
        is_skill = None
        if self.retain.token_weighting != "none" or self.retain.replay_target == "distribution":
            is_skill = torch.tensor([kind != REPLAY_KIND for kind in kinds], device=self.device)
        if is_skill is not None and self.retain.replay_target == "distribution":
            inputs[-1].mul_(is_skill)
        padded_tokens = inputs[0].numel()
        try:
            with self.checkpointing.apply(self.peft_model, padded_tokens):
                total, losses, divergences = self.objective(*inputs, positions, lengths, is_skill)
                total.backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(_out_of_memory_message(self.checkpointing, len(rows), padded_tokens)) from None
        return kinds, losses, divergences


def _out_of_memory_message(checkpointing: ActivationCheckpointing, rows: int, tokens: int) -> str:
    smaller = f"train.tokens_per_batch: {tokens // 2}" if rows > 1 else "shorter rows (data.max_tokens)"
    advice = (
        smaller if checkpointing.applies_to(tokens) else f"train.activation_checkpointing: always, or with {smaller}"
    )
    return (
        f"out of memory with a batch of {rows} × {tokens // rows:,} tokens; nothing of this step is saved. "
        f"Run the same command on a machine with more free memory, or start a new run with {advice}"
    )


def initial_loss_scale(model: Any) -> float:
    """The loss scale to start with: 1 unless some weight is float16, in which small gradients underflow."""
    return INITIAL_LOSS_SCALE if any(p.dtype == torch.float16 for p in model.parameters()) else 1.0
