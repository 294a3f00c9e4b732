"""What is handed over: a checkpoint, and how much its adapter counts, the most skilled of those that kept enough.

It is judged on dev questions alone. Tuning moves a model along a line; part of the way often keeps what all of it
loses, and costs no training (WiSE-FT, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """The scores on the dev questions of a checkpoint whose adapter counts `scale` times; reading in percent."""

    checkpoint: str
    accuracy: float
    f1: float
    em: float
    scale: float = 1.0

    def kept(self, base: Candidate) -> float:
        """The smaller share of the base's F1 and EM that is left; what the base did not have cannot be lost."""
        shares = [own / before for own, before in ((self.f1, base.f1), (self.em, base.em)) if before > 0]
        return min(shares, default=1.0)


def choose(candidates: Sequence[Candidate], base: Candidate, threshold: float) -> Candidate:
    """The most accurate candidate that keeps at least `threshold` of the base; the later one of equals.

    If none keeps that much, the one that keeps most: the gate will say what it is worth.
    """
    inside = [candidate for candidate in candidates if candidate.kept(base) >= threshold]
    if not inside:
        return max(candidates, key=lambda candidate: candidate.kept(base))
    best = max(candidate.accuracy for candidate in inside)
    return [candidate for candidate in inside if candidate.accuracy == best][-1]
