"""Rule that selects the best candidate: a checkpoint with an adapter scale, scored on the dev questions.

The candidate with the best skill score is selected among those that keep enough of the base's reading score and lose no
ability. Each adapter scale is a separate candidate. A point between base and tuned often keeps what tuned loses, and
costs no training (WiSE-FT, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """Dev scores of a checkpoint whose adapter is multiplied by `scale`. F1 and EM are in percent.

    The abilities of the retention suite that the gate finds lost on the dev items are in `lost`.
    """

    checkpoint: str
    accuracy: float
    f1: float
    em: float
    scale: float = 1.0
    lost: tuple[str, ...] = ()

    def retained_share(self, base: Candidate) -> float:
        """min(F1 / base F1, EM / base EM). A measure on which the base scores 0 is left out; 1 without measures."""
        shares = [score / before for score, before in ((self.f1, base.f1), (self.em, base.em)) if before > 0]
        return min(shares, default=1.0)


def select_candidate(
    candidates: Sequence[Candidate], base: Candidate, threshold: float, retention_weight: float = 0.0
) -> Candidate:
    """The eligible candidate with the best value; the last one of equals.

    A candidate is eligible if it lost no ability and keeps at least `threshold` of the base's reading score. Its value
    is accuracy + retention_weight · retained_share. If no candidate is eligible, the result is the one with the fewest
    lost abilities and then the largest retained share; the gate reports what it is worth.
    """
    eligible = [
        candidate for candidate in candidates if not candidate.lost and candidate.retained_share(base) >= threshold
    ]
    if not eligible:
        return max(candidates, key=lambda candidate: (-len(candidate.lost), candidate.retained_share(base)))
    values = [candidate.accuracy + retention_weight * candidate.retained_share(base) for candidate in eligible]
    return [candidate for candidate, value in zip(eligible, values, strict=True) if value == max(values)][-1]


def evaluations_without_improvement(
    candidates: Sequence[Candidate], base: Candidate, threshold: float, retention_weight: float
) -> int:
    """Number of candidates since the best one, which early stopping compares with its patience.

    A candidate that is only as good as an earlier one is no improvement.
    """
    if not candidates:
        return 0
    latest_first = list(reversed(candidates))
    return latest_first.index(select_candidate(latest_first, base, threshold, retention_weight))
