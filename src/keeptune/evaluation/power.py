"""How many questions a decision needs: the plan for a retention verdict, before any model is asked.

A question contributes d = tuned − θ·base to a score. If nothing changed in expectation, its mean is (1 − θ)·p, where p
is the base's accuracy, and its variance follows from the share c of questions whose answer changes in either
direction. A one-sided test at 2.5 % with power 90 % then needs n = ((z₀.₉₇₅ + z₀.₉) · sd(d) / mean(d))² questions
(Chow, Shao & Wang 2008, chapter 4), and a few more for the gate's continuity correction of half an answer. Where the
probability of the right option decides, it changes a little on every question instead of entirely on a few. For a loss,
d is the change of a text's mean and the margin takes the mean's place.

The assumptions are typical of an adapter that harms nothing; `keeptune gate` measures what they were in truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, hypot, sqrt
from statistics import NormalDist
from typing import Literal

from keeptune.evaluation.gate import CONTINUITY, MINIMUM_QUESTIONS, TAIL, Kind, Limits

Decisive = Literal["score", "probability", "loss"]
"""What decides an ability: answers that are right or wrong, probabilities of the right option, or losses."""

POWER = 0.9

BASE_ACCURACY = 0.6
CHANGED_SHARE = 0.06
"""Of the answers, that change though nothing is lost: half of them to the better."""

PROBABILITY_SPREAD, PROBABILITY_CHANGE = 0.33, 0.15
"""Standard deviations, over questions, of the base's probability of the right option and of its change."""

TEXT_SPREAD_NATS = 0.06
"""Standard deviation, over texts, of the change of the loss per token."""


@dataclass(frozen=True, slots=True)
class AbilityPlan:
    """The questions that an ability has in the suite, and those that a decision needs."""

    name: str
    kind: Kind
    limit: float
    questions: int
    needed: int

    @property
    def is_enough(self) -> bool:
        """Whether the suite has as many as are needed."""
        return self.questions >= self.needed


def questions_for_score(threshold: float, accuracy: float = BASE_ACCURACY, changed: float = CHANGED_SHARE) -> int:
    """The questions that prove a score retained. `threshold` below 1; at 1 no number is enough."""
    both = max(0.0, accuracy - changed / 2)
    mean = (1 - threshold) * accuracy
    square = both * (1 - threshold) ** 2 + changed / 2 * (threshold**2 + 1)
    return _questions(sqrt(max(0.0, square - mean**2)), mean, CONTINUITY)


def questions_for_probability(threshold: float, mean: float = BASE_ACCURACY) -> int:
    """The questions that prove the mean probability of the right option retained. `threshold` below 1."""
    spread = hypot((1 - threshold) * PROBABILITY_SPREAD, PROBABILITY_CHANGE)
    return _questions(spread, (1 - threshold) * mean, CONTINUITY)


def questions_for_loss(margin: float, spread: float = TEXT_SPREAD_NATS) -> int:
    """The texts that prove a loss retained."""
    return _questions(spread, margin, 0.0)


def plan_abilities(counts: Sequence[tuple[str, Decisive, int]], limits: Limits) -> list[AbilityPlan]:
    """For (name, what decides, questions in the suite) of each ability, what a decision needs."""
    needed: dict[Decisive, Callable[[float], int]] = {
        "score": questions_for_score,
        "probability": questions_for_probability,
        "loss": questions_for_loss,
    }
    plans = []
    for name, decisive, questions in counts:
        kind: Kind = "loss" if decisive == "loss" else "score"
        limit = limits.of(name, kind)
        plans.append(AbilityPlan(name, kind, limit, questions, needed[decisive](limit)))
    return plans


def _questions(spread: float, distance: float, correction: float) -> int:
    """The n at which n · distance − correction = z · spread · √n, at least MINIMUM_QUESTIONS."""
    if distance <= 0:
        return 10**9
    normal = NormalDist()
    noise = spread * (normal.inv_cdf(1 - TAIL) + normal.inv_cdf(POWER))
    root = (noise + sqrt(noise**2 + 4 * distance * correction)) / (2 * distance)
    return max(MINIMUM_QUESTIONS, ceil(root**2))
