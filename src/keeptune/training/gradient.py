"""The gradient of one step, accumulated over its batches and over all processes.

The result is the gradient of the step's mean loss over target tokens, however many batches the step has. For that, the
loss of each token is scaled before anything is summed. With several processes, each computes its share of the batches,
and an all-reduce sums the gradients.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.errors import TrainingError
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.fused_lora import cached_casts
from keeptune.models.out_of_memory import is_out_of_memory
from keeptune.models.sharding import ShardedModel
from keeptune.models.transfer import to_device
from keeptune.training.batches import REPLAY_KIND, Batch, TokenizedExample, padded_tokens
from keeptune.training.distributed import DistributedContext
from keeptune.training.objective import Objective, collate, collate_kl_positions, kl_positions
from keeptune.training.packing import packs_rows
from keeptune.training.step_statistics import BatchResult, StepStatistics

logger = logging.getLogger(__name__)

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
        self.lengths = [len(example.tokens) for example in examples]
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
        with cached_casts(self.peft_model):
            results = [self._backward(batch, *weights) for batch in batches[rank]]
            if self.sharded_model:
                # Gathering weights is collective. A process with fewer batches computes one row with weight 0 instead.
                for _ in range(max(map(len, batches)) - len(batches[rank])):
                    self._backward(batches[0][0][:1], 0.0, 0.0)
        total = StepStatistics()
        for statistics in self.context.all_gather(StepStatistics.of_batches(results)):
            total.merge(statistics)
        if not total.non_finite_batch:
            self.context.all_reduce_gradients(self.parameters)
        return total

    def _kl_position_weight(self, rows: Sequence[TokenizedExample]) -> float:
        """The weight of the divergence at each position of the KL term in a step."""
        if not self.retain.kl_weight:
            return 0.0
        return self.kl_weight / max(1, sum(len(kl_positions(row, self.retain.kl_tokens)) for row in rows))

    def _backward(self, batch: Batch, token_weight: float, kl_weight: float) -> BatchResult:
        """Adds the gradient of one batch. A card that runs out of memory tries again with activation checkpointing.

        Raises:
            TrainingError: if the batch does not fit.
        """
        tokens = padded_tokens(batch, self.lengths)
        retries = self.device.type == "cuda" and not self.sharded_model and not self.checkpointing.applies_to(tokens)
        random_states: tuple[Tensor, ...] = _random_states(self.device) if retries else ()
        try:
            with self._all_or_nothing() if retries else nullcontext():
                return self._backward_once(batch, token_weight, kl_weight)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if not retries:
                message = _out_of_memory_message(self.checkpointing, len(batch), tokens)
                raise TrainingError(message) from None
        # Not in the handler, because the error holds the activations of the failed pass.
        logger.warning(
            "a batch of %d tokens does not fit; it and larger ones use activation checkpointing from now on", tokens
        )
        torch.accelerator.empty_cache()
        _restore_random_states(self.device, *random_states)
        self.checkpointing = ActivationCheckpointing(tokens - 1)
        return self._backward(batch, token_weight, kl_weight)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Adds the gradients of a backward pass only once it is complete."""
        before = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        try:
            yield
        except BaseException:
            for parameter, gradient in zip(self.parameters, before, strict=True):
                parameter.grad = gradient
            raise
        for parameter, gradient in zip(self.parameters, before, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)

    def _backward_once(self, batch: Batch, token_weight: float, kl_weight: float) -> BatchResult:
        """Adds the gradient of one batch."""
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
            is_skill = to_device(torch.tensor([kind != REPLAY_KIND for kind in kinds]), self.device)
        if is_skill is not None and self.retain.replay_target == "distribution":
            inputs[-1].mul_(is_skill)
        with self.checkpointing.apply(self.peft_model, inputs[0].numel()):
            total, losses, divergences = self.objective(*inputs, positions, lengths, is_skill)
            total.backward()
        return BatchResult(batch, kinds, losses, divergences)


def _random_states(device: torch.device) -> tuple[Tensor, Tensor]:
    """The states of the random numbers of the processor and of a card."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device)


def _restore_random_states(device: torch.device, processor: Tensor, card: Tensor) -> None:
    """Draws the same random numbers again, for the same dropout."""
    torch.set_rng_state(processor)
    torch.cuda.set_rng_state(card, device)


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
