"""Sample sizes: the number of questions that a retention verdict needs at 90 % power, computed before the evaluation.

Each question contributes d = tuned − θ · base, where θ is the threshold. If tuning changes nothing in expectation, the
mean of d is (1 − θ) · p, where p is the base's accuracy. The variance of d follows from c, the share of answers that
change in either direction. The number of questions of a one-sided test at 2.5 % with power 90 % is

    n = ((z₀.₉₇₅ + z₀.₉) · sd(d) / mean(d))²

(Chow, Shao & Wang 2008, chapter 4). The gate's continuity correction of half an answer needs a few more.
If the probability of the right option decides, it changes a little on every question instead of completely on a few.
For a loss, d is the change of a text's mean loss, and the margin replaces the mean.

The assumed values are typical of an adapter that harms nothing. `keeptune gate` measures the actual ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, hypot, sqrt
from statistics import NormalDist
from typing import Literal

from keeptune.evaluation.gate import CONTINUITY, MINIMUM_QUESTIONS, TAIL, Kind, Limits

DecidingMeasure = Literal["score", "probability", "loss"]
"""The measure that decides an ability: right or wrong answers, probabilities of the right option, or losses."""

POWER = 0.9
"""Probability of a decision if the assumptions hold."""

BASE_ACCURACY = 0.6
"""Assumed accuracy of the base, and assumed mean probability of the right option."""

CHANGED_SHARE = 0.06
"""Assumed share of answers that change although nothing is lost. Half of them become right, half wrong."""

PROBABILITY_SPREAD, PROBABILITY_CHANGE = 0.33, 0.15
"""Assumed standard deviations over questions: of the base's probability of the right option, and of its change."""

TEXT_SPREAD_NATS = 0.06
"""Assumed standard deviation over texts of the change of the loss, in nats per token."""


@dataclass(frozen=True, slots=True)
class AbilityPlan:
    """Number of questions that the suite has for an ability, and number that a decision needs."""

    name: str
    kind: Kind
    limit: float
    questions: int
    needed: int

    @property
    def is_enough(self) -> bool:
        """Whether the suite has enough questions."""
        return self.questions >= self.needed


def questions_for_score(threshold: float, accuracy: float = BASE_ACCURACY, changed: float = CHANGED_SHARE) -> int:
    """Number of right-or-wrong questions that prove a score retained.

    With p = accuracy and c = changed, E[d²] = (p − c/2)(1 − θ)² + c/2 · (θ² + 1). At a threshold θ of 1, no number of
    questions is enough.
    """
    right_in_both = max(0.0, accuracy - changed / 2)
    mean = (1 - threshold) * accuracy
    mean_square = right_in_both * (1 - threshold) ** 2 + changed / 2 * (threshold**2 + 1)
    return _sample_size(sqrt(max(0.0, mean_square - mean**2)), mean, CONTINUITY)


def questions_for_probability(threshold: float, mean: float = BASE_ACCURACY) -> int:
    """Number of questions that prove the mean probability of the right option retained.

    sd(d) = √(((1 − θ) · PROBABILITY_SPREAD)² + PROBABILITY_CHANGE²). At a threshold θ of 1, no number is enough.
    """
    spread = hypot((1 - threshold) * PROBABILITY_SPREAD, PROBABILITY_CHANGE)
    return _sample_size(spread, (1 - threshold) * mean, CONTINUITY)


def questions_for_loss(margin: float, spread: float = TEXT_SPREAD_NATS) -> int:
    """Number of texts that prove a loss retained. `margin` and `spread` in nats per token."""
    return _sample_size(spread, margin, 0.0)


def plan_abilities(counts: Sequence[tuple[str, DecidingMeasure, int]], limits: Limits) -> list[AbilityPlan]:
    """The plan of each ability. `counts` holds its name, deciding measure and number of questions in the suite."""
    sample_size: dict[DecidingMeasure, Callable[[float], int]] = {
        "score": questions_for_score,
        "probability": questions_for_probability,
        "loss": questions_for_loss,
    }
    plans = []
    for name, measure, questions in counts:
        kind: Kind = "loss" if measure == "loss" else "score"
        limit = limits.limit_for(name, kind)
        plans.append(AbilityPlan(name, kind, limit, questions, sample_size[measure](limit)))
    return plans


def _sample_size(spread: float, distance: float, correction: float) -> int:
    """The n that solves n · distance − correction = (z₀.₉₇₅ + z₀.₉) · spread · √n, at least MINIMUM_QUESTIONS."""
    if distance <= 0:
        return 10**9
    normal = NormalDist()
    noise = spread * (normal.inv_cdf(1 - TAIL) + normal.inv_cdf(POWER))
    root = (noise + sqrt(noise**2 + 4 * distance * correction)) / (2 * distance)
    return max(MINIMUM_QUESTIONS, ceil(root**2))
