"""What one step sums up: losses by kind and the divergence from the base, over its batches and over the processes that
share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from keeptune.training.batches import Batch


@dataclass(slots=True)
class Totals:
    """Sums over labelled tokens and over anchors, and the first batch whose loss was not finite."""

    nll: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, int] = field(default_factory=dict)
    kl: float = 0.0
    anchored: int = 0
    refused: Batch | None = None

    def add(self, kinds: Sequence[str], losses: Tensor, divergences: Tensor) -> None:
        """Adds the loss of each token to those of its kind, and the divergence at each anchor."""
        for kind, loss in zip(kinds, losses.tolist(), strict=True):
            self._count(kind, loss, 1)
        self.kl += float(divergences.sum())
        self.anchored += len(divergences)

    def join(self, other: Totals) -> None:
        """Adds another process's sums."""
        for kind, loss in other.nll.items():
            self._count(kind, loss, other.labelled[kind])
        self.kl += other.kl
        self.anchored += other.anchored
        self.refused = self.refused or other.refused

    @property
    def loss(self) -> float:
        """The mean over all labelled tokens, in nats."""
        return sum(self.nll.values()) / sum(self.labelled.values())

    @property
    def divergence(self) -> float | None:
        """The mean divergence from the base at all anchors, in nats; None where there was none."""
        return self.kl / self.anchored if self.anchored else None

    @property
    def by_kind(self) -> dict[str, float]:
        """The mean of each kind."""
        return {kind: self.nll[kind] / self.labelled[kind] for kind in sorted(self.nll)}

    def _count(self, kind: str, loss: float, labelled: int) -> None:
        self.nll[kind] = self.nll.get(kind, 0.0) + loss
        self.labelled[kind] = self.labelled.get(kind, 0) + labelled
