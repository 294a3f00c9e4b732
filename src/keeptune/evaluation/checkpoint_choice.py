"""What is handed over: a checkpoint, and how much its adapter counts, the most skilled of those that kept enough.

It is judged on dev questions alone. Tuning moves a model along a line; part of the way often keeps what all of it
loses, and costs no training (WiSE-FT, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """The scores on the dev questions of a checkpoint whose adapter counts `scale` times; reading in percent.

    `lost` names the abilities of the retention suite that the gate's rule finds lost on the dev items.
    """

    checkpoint: str
    accuracy: float
    f1: float
    em: float
    scale: float = 1.0
    lost: tuple[str, ...] = ()

    def kept(self, base: Candidate) -> float:
        """The smaller share of the base's F1 and EM that is left; what the base did not have cannot be lost."""
        shares = [own / before for own, before in ((self.f1, base.f1), (self.em, base.em)) if before > 0]
        return min(shares, default=1.0)


def choose(
    candidates: Sequence[Candidate], base: Candidate, threshold: float, retention_weight: float = 0.0
) -> Candidate:
    """The best candidate of those that keep at least `threshold` of the base; the later one of equals.

    The best is the most accurate, unless what is kept has a weight too. A candidate that lost an ability on dev is out.
    If none is left, the one that lost fewest abilities and keeps most: the gate will say what it is worth.
    """
    inside = [candidate for candidate in candidates if not candidate.lost and candidate.kept(base) >= threshold]
    if not inside:
        return max(candidates, key=lambda candidate: (-len(candidate.lost), candidate.kept(base)))
    worth = [candidate.accuracy + retention_weight * candidate.kept(base) for candidate in inside]
    return [candidate for candidate, own in zip(inside, worth, strict=True) if own == max(worth)][-1]


def brought_nothing(candidates: Sequence[Candidate], base: Candidate, threshold: float, retention_weight: float) -> int:
    """How many of the latest candidates came after the one to hand over, without being better: what patience counts."""
    if not candidates:
        return 0
    first_of_equals = list(reversed(candidates))
    best = choose(first_of_equals, base, threshold, retention_weight)
    return first_of_equals.index(best)
