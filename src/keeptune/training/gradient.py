"""The gradient of one step, of all processes together.

It is the gradient of the step's mean loss over supervised tokens, however many batches it takes: each token is weighted
before anything is summed, by one over the step's supervised tokens, or over those of a step on average. Several
processes take a step together: each computes its share of the batches, and the gradients are added up. With one process
nothing of this happens.
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
from keeptune.models.activation_checkpointing import Recompute
from keeptune.models.attention import has_kernel
from keeptune.models.out_of_memory import is_out_of_memory
from keeptune.models.sharding import Shards
from keeptune.training import replay
from keeptune.training.batches import Batch, Example
from keeptune.training.distributed import Processes
from keeptune.training.objective import Objective, anchored, anchors, collate
from keeptune.training.step_statistics import Totals

FIRST_LOSS_SCALE = 2.0**16
"""What gradients are multiplied by in half precision, until that is too much."""


class Gradient:
    """Computes the gradients of a model's trainable parameters for steps over one list of examples."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        settings: TrainSection,
        retain: RetainSection,
        seed: int,
        recompute: Recompute,
        processes: Processes,
        shards: Shards | None,
    ) -> None:
        self.peft_model, self.examples, self.settings, self.seed = model, examples, settings, seed
        self.retain = retain
        self.recompute, self.processes, self.shards = recompute, processes, shards
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.model = Objective(model, retain)
        self.end_to_end = has_kernel(model)
        self.loss_scale = FIRST_LOSS_SCALE if _has_half_precision(model) else 1.0

    def of(self, index: int, dealt: Sequence[Sequence[Batch]], token_weight: float) -> tuple[Totals, float]:
        """The sums of a step and the norm of its gradient, which then lies in the parameters, clipped.

        `dealt` holds the batches of each process.

        Where a loss was not finite there is none: `refused` of the sums names the batch. In half precision small
        gradients would vanish, so all are computed as many times as large as the loss scale says. Where that is too
        large for the format, the step is computed again with half of it.
        """
        self.model.train()
        while True:
            totals = self._add_up(index, dealt, token_weight)
            if totals.refused:
                return totals, math.nan
            for parameter in self.parameters:
                if parameter.grad is not None and self.loss_scale != 1:
                    parameter.grad /= self.loss_scale
            norm = float(nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
            if math.isfinite(norm) or self.loss_scale <= 1:
                return totals, norm
            self.loss_scale /= 2
            self.model.zero_grad()

    def _add_up(self, index: int, dealt: Sequence[Sequence[Batch]], token_weight: float) -> Totals:
        """The sums over a step of all processes, whose gradients are then added up in `parameters`."""
        rows = [self.examples[i] for share in dealt for batch in share for i in batch]
        weights = self.loss_scale * token_weight, self.loss_scale * self._anchor_weight(rows)
        if self.processes.count > 1 or self.device.type != "cpu":
            # For dropout: not the same on all, and the same again after an interruption, for a checkpoint holds the
            # random state of the first one's processor alone.
            torch.manual_seed(random.Random(f"{self.seed}/{index}/{self.processes.number}").getrandbits(63))
        totals = Totals()
        for batch in dealt[self.processes.number]:
            kinds, losses, divergences = self._backward(batch, *weights)
            totals.add(kinds, losses, divergences)
            if not all(bool(torch.isfinite(values).all()) for values in (losses, divergences)):
                totals.refused = totals.refused or batch
        if self.shards:
            # Weights are gathered by all or by none, so whoever has fewer batches computes one row for nothing.
            for _ in range(max(map(len, dealt)) - len(dealt[self.processes.number])):
                self._backward(dealt[0][0][:1], 0.0, 0.0)
        own, totals = totals, Totals()
        for told in self.processes.gather(own):
            totals.join(told)
        if not totals.refused:
            self.processes.add_gradients(self.parameters)
        return totals

    def _anchor_weight(self, rows: Sequence[Example]) -> float:
        """What a nat of divergence counts at each anchor of a step."""
        if not self.retain.kl_weight:
            return 0.0
        return self.retain.kl_weight / max(1, sum(len(anchored(row, self.retain.kl_tokens)) for row in rows))

    def _backward(self, batch: Batch, token_weight: float, anchor_weight: float) -> tuple[list[str], Tensor, Tensor]:
        """The kind and the loss of each labelled token of a batch, and the divergence at each anchor; the gradient is
        added to the others'."""
        rows = [self.examples[i] for i in batch]
        inputs, kinds = collate(rows, token_weight, self.device)
        held = anchors(rows, self.retain.kl_tokens, anchor_weight, self.device) if self.retain.kl_weight else None
        if held and not len(held.rows) and not self.shards:
            held = None  # divided weights are gathered by all or by none, so there the base is asked for nothing, too
        lengths = [len(row.tokens) for row in rows] if self.end_to_end else None
        taught = None
        if self.retain.token_weighting != "none" or self.retain.replay_target == "distribution":
            taught = torch.tensor([kind != replay.KIND for kind in kinds], device=self.device)
        if taught is not None and self.retain.replay_target == "distribution":
            inputs[-1].mul_(taught)
        padded_tokens = inputs[0].numel()
        try:
            with self.recompute.around(self.peft_model, padded_tokens):
                total, losses, divergences = self.model(*inputs, held, lengths, taught)
                total.backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(_too_large(self.recompute, len(rows), padded_tokens)) from None
        return kinds, losses, divergences


def _too_large(recompute: Recompute, rows: int, tokens: int) -> str:
    smaller = f"train.tokens_per_batch: {tokens // 2}" if rows > 1 else "shorter rows (data.max_tokens)"
    advice = smaller if recompute.wanted(tokens) else f"train.activation_checkpointing: always, or with {smaller}"
    return (
        f"out of memory with a batch of {rows} × {tokens // rows:,} tokens; nothing of this step is saved. "
        f"Run the same command where more memory is free, or start a new run with {advice}"
    )


def _has_half_precision(model: Any) -> bool:
    """Whether the frozen weights are of a format in which small gradients vanish."""
    return any(p.dtype == torch.float16 for p in model.parameters())
