"""Sums over one step: losses by kind and the divergence from the base, over its batches and its processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from keeptune.training.batches import Batch


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The losses of one batch, on the device.

    Attributes:
        batch: the rows.
        kinds: the kind of each target token.
        losses: the loss of each target token, of shape `(targets,)`.
        divergences: the divergence at each position of the KL term, of shape `(positions,)`.
    """

    batch: Batch
    kinds: Sequence[str]
    losses: Tensor
    divergences: Tensor


@dataclass(slots=True)
class StepStatistics:
    """Sums over target tokens and over the positions of the KL term.

    Attributes:
        losses: the sum of token losses by kind, in nats.
        targets: the number of target tokens by kind.
        kl: the sum of KL(base ‖ tuned) over its positions, in nats.
        kl_positions: the number of these positions.
        non_finite_batch: the first batch whose loss or divergence was not finite.
    """

    losses: dict[str, float] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    kl: float = 0.0
    kl_positions: int = 0
    non_finite_batch: Batch | None = None

    @classmethod
    def of_batches(cls, results: Sequence[BatchResult]) -> Self:
        """The sums over batches. All losses leave the device in one copy, so the host waits for it once."""
        statistics = cls()
        tensors = [part for result in results for part in (result.losses, result.divergences.sum()[None])]
        values = torch.cat(tensors).tolist() if tensors else []
        start = 0
        for result in results:
            end = start + len(result.kinds)
            losses, kl, start = values[start:end], values[end], end + 1
            for kind, loss in zip(result.kinds, losses, strict=True):
                statistics.add_loss(kind, loss, 1)
            statistics.kl += kl
            statistics.kl_positions += len(result.divergences)
            if not all(map(math.isfinite, (*losses, kl))):
                statistics.non_finite_batch = statistics.non_finite_batch or result.batch
        return statistics

    def add_loss(self, kind: str, loss: float, targets: int) -> None:
        """Adds the summed loss of some target tokens of one kind."""
        self.losses[kind] = self.losses.get(kind, 0.0) + loss
        self.targets[kind] = self.targets.get(kind, 0) + targets

    def merge(self, other: StepStatistics) -> None:
        """Adds the sums of another process."""
        for kind, loss in other.losses.items():
            self.add_loss(kind, loss, other.targets[kind])
        self.kl += other.kl
        self.kl_positions += other.kl_positions
        self.non_finite_batch = self.non_finite_batch or other.non_finite_batch

    @property
    def loss(self) -> float:
        """The mean loss over all target tokens, in nats."""
        return sum(self.losses.values()) / sum(self.targets.values())

    @property
    def divergence(self) -> float | None:
        """The mean divergence from the base, in nats per position; None without positions."""
        return self.kl / self.kl_positions if self.kl_positions else None

    @property
    def loss_by_kind(self) -> dict[str, float]:
        """The mean loss of each kind, in nats."""
        return {kind: self.losses[kind] / self.targets[kind] for kind in sorted(self.losses)}
