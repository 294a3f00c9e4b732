"""Retention verdict: which abilities of the base model the tuned model has kept.

An ability has one or more measures, each with paired values of base and tuned on the same questions. A measure is
`retained` when its 95 % interval proves that the loss is within the limit, `lost` when the interval proves the
opposite (Holm-corrected over all measures that are tested), and `undecided` otherwise. An ability is retained when all
its measures are; one that only takes a second look (accuracy beside the probability of the right option) need not prove
it by itself. An ability that the base does not have has `nothing to lose`; an ability that training practised is
reported and never counted. The run passes if every counted ability is retained and at least three unpractised abilities
were counted: each must pass on its own (intersection–union test, Berger 1982), so that part needs no correction.

This module knows arrays and names. It knows no model, no file and no prompt.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite, log
from typing import Literal

import numpy as np

from keeptune.evaluation.sequential import repeated_tail
from keeptune.evaluation.statistics import Bootstrap, FloatArray, bootstrap_mean, bootstrap_ratio, wilson

Status = Literal["retained", "lost", "undecided", "nothing to lose", "practised"]
Verdict = Literal["pass", "fail", "undecided"]
Kind = Literal["score", "loss"]

DECIDING: tuple[Status, ...] = ("retained", "lost", "undecided")
"""The statuses of abilities that can decide the verdict."""

TAIL = 0.025
"""One-sided error of each bound: the ends of a two-sided 95 % interval."""

FAMILY_ERROR = 0.05
"""Probability that any measure is called lost though none is beyond its limit. No bound is looser than TAIL for it."""

MINIMUM_ABILITIES = 3
"""Unpractised abilities that must be counted before a run can pass."""

MINIMUM_QUESTIONS = 30
MINIMUM_CLUSTERS = 10
"""With fewer, the bootstrap interval is too narrow (results/intervals.json), so the measure is undecided."""

MINIMUM_BASE_TOTAL = 10.0
"""Base scores below ten right answers make a ratio meaningless: one question more or less moves it by 10 %."""

CONTINUITY = 0.5
"""Right answers that a bound must be able to lose further: where hardly an answer changed, the bootstrap sees no spread
(Yates 1934)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Values of one measure, one entry per question, for base and tuned. shapes: all arrays (questions,).

    `score`: values from 0 to 1, more is better. `loss`: nats summed over the `weights` tokens of the question.
    `chance` is the mean score of a model that ignores the question, or the loss per token of a uniform prediction.
    `asked` counts the questions put to the base, where only some of its answers can be used. A measure that does not
    prove (`proves`) is a second look at what another one proves: it can be lost, and it is retained when its point is
    within the limit.
    """

    name: str
    kind: Kind
    base: FloatArray
    tuned: FloatArray
    clusters: Sequence[Hashable]
    weights: FloatArray
    chance: float
    asked: int
    proves: bool = True


@dataclass(frozen=True, slots=True)
class AbilityScores:
    """The measurements of one ability, the first being its headline; `practised` names what practised it, if any."""

    name: str
    measurements: Sequence[Measurement]
    practised: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be lost: `threshold` of the base's score, `margin` in nats per token; by ability where given.

    `counted` names the abilities that decide; None counts all.
    """

    threshold: float = 0.9
    margin: float = 0.10
    thresholds: Mapping[str, float] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    counted: frozenset[str] | None = None

    def counts(self, ability: str) -> bool:
        """Whether this ability decides, unless training practised it."""
        return self.counted is None or ability in self.counted

    def of(self, ability: str, kind: Kind) -> float:
        """The limit that applies to a measure of this ability."""
        if kind == "score":
            return self.thresholds.get(ability, self.threshold)
        return self.margins.get(ability, self.margin)


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """One measure with its interval. `point` is tuned / base for scores, tuned − base in nats per token for losses.

    `more_questions` estimates how many further questions would decide it; None where that is not known.
    """

    name: str
    kind: Kind
    n: int
    base: float
    tuned: float
    point: float
    low95: float
    high95: float
    limit: float
    status: Status
    reason: str
    more_questions: int | None = None


@dataclass(frozen=True, slots=True)
class AbilityResult:
    """The status of an ability; it is lost or undecided if one of its measures is."""

    name: str
    status: Status
    counted: bool
    practised: str | None
    measures: tuple[MeasureResult, ...]

    @property
    def headline(self) -> MeasureResult:
        """The measure that tables and charts show."""
        return self.measures[0]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The overall verdict, one sentence that gives the reason, and all abilities."""

    verdict: Verdict
    reason: str
    abilities: tuple[AbilityResult, ...]


def judge(
    abilities: Sequence[AbilityScores], limits: Limits, *, resamples: int = 10_000, seed: int = 0, looks: int = 1
) -> GateResult:
    """The verdict on all abilities.

    With `looks` > 1 the data may be judged that many times while it grows, and testing may stop at any of them: bounds
    are widened to keep the error over all looks (sequential.py), and Holm gives way to Bonferroni.
    """
    tested = [(own, [_test(own.name, part, limits, resamples, seed) for part in own.measurements]) for own in abilities]
    deciding = [test for own, tests in tested if own.practised is None and limits.counts(own.name) for test in tests]
    family, size = [test for test in deciding if test.bootstrap is not None], len(deciding)
    lost = {id(test) for test in _lost(family, looks, size)}
    strictest = repeated_tail(TAIL / max(1, size), looks) if looks > 1 else FAMILY_ERROR / max(1, len(family))
    tails = _Tails(repeated_tail(TAIL, looks), min(TAIL, strictest))
    results = []
    for own, tests in tested:
        counts = own.practised is None and limits.counts(own.name)
        measures = tuple(test.result(id(test) in lost if counts else None, tails) for test in tests)
        results.append(_ability(own, measures, limits))
    verdict, reason = _overall(results)
    return GateResult(verdict, reason, tuple(results))


@dataclass(frozen=True, slots=True)
class _Tails:
    """One-sided levels: at which a measure is retained, and the strictest at which it is lost."""

    retained: float
    lost: float


@dataclass(slots=True, eq=False)
class _Test:
    """A measure with its bootstrap distribution, or with the status that needs none."""

    measurement: Measurement
    limit: float
    bootstrap: Bootstrap | None
    status: Status | None
    reason: str
    more_questions: int | None = None

    def is_lost(self, tail: float) -> bool:
        """Whether the bound at this level proves a loss beyond the limit."""
        assert self.bootstrap is not None
        if self.measurement.kind == "score":
            return self.bootstrap.upper(tail) < self.limit
        return self.bootstrap.lower(tail) > self.limit

    def is_retained(self, tail: float) -> bool:
        """Whether the bound at this level proves that the loss is within the limit; the point, for a second look."""
        assert self.bootstrap is not None
        if not self.measurement.proves:
            point = self.bootstrap.point
            return point >= self.limit if self.measurement.kind == "score" else point <= self.limit
        if self.measurement.kind == "score":
            return self.bootstrap.lower(tail) - CONTINUITY / float(self.measurement.base.sum()) >= self.limit
        return self.bootstrap.upper(tail) <= self.limit

    def can_be_retained(self, tail: float) -> bool:
        """Whether the base has enough right answers: if tuning lost each with probability 1 − limit, that it lost none
        must be less likely than `tail`."""
        if self.measurement.kind == "loss" or self.limit >= 1 or not self.measurement.proves:
            return True
        return float(self.measurement.base.sum()) >= log(tail) / log(self.limit)

    def p_value(self) -> float:
        """The smallest tail at which the measure is lost, to three digits; 0.5 where the point is within the limit."""
        if not self.is_lost(0.499):
            return 0.5
        low, high = 1e-7, 0.499
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.is_lost(middle) else (middle, high)
        return high

    def result(self, lost: bool | None, tails: _Tails) -> MeasureResult:
        """The result. `lost` is the decision of the corrected test, or None for an ability outside the family."""
        own, drawn = self.measurement, self.bootstrap
        base, tuned = (_mean(values, own.weights) for values in (own.base, own.tuned))
        if drawn is None:
            assert self.status is not None
            figures = (float("nan"),) * 3
            status, reason, more = self.status, self.reason, self.more_questions
        else:
            figures = (drawn.point, drawn.lower(), drawn.upper())
            status, reason, more = self._decided(self.is_lost(TAIL) if lost is None else lost, tails)
        return MeasureResult(own.name, own.kind, len(own.base), base, tuned, *figures, self.limit, status, reason, more)

    def _decided(self, lost: bool, tails: _Tails) -> tuple[Status, str, int | None]:
        if lost:
            return "lost", f"{self._bound(best=True)}; the limit is {self._shown(self.limit)}", None
        if not self.can_be_retained(tails.retained):
            needed = ceil(log(tails.retained) / log(self.limit))
            right = f"the base is right on {float(self.measurement.base.sum()):.0f} questions"
            return "nothing to lose", f"{right}; {needed} are needed to prove that they are kept", None
        if self.is_retained(tails.retained):
            shown = self._bound(best=False) if self.measurement.proves else f"{self._interval()}, which is no proof"
            return "retained", f"{shown}; the limit is {self._shown(self.limit)}", None
        more = self._more_questions(tails)
        questions = "question" if more == 1 else "questions"
        need = f"about {more:,} further {questions} would decide" if more else "no number of questions would decide"
        return "undecided", f"{self._interval()}; the limit is {self._shown(self.limit)}; {need}", more

    def _bound(self, best: bool) -> str:
        assert self.bootstrap is not None
        if self.measurement.kind == "score":
            bound = self.bootstrap.upper() if best else self.bootstrap.lower()
            return f"{'at most' if best else 'at least'} {bound:.1%} of the base's score"
        bound = self.bootstrap.lower() if best else self.bootstrap.upper()
        return f"the loss grew by {'at least' if best else 'at most'} {bound:.3f} nats per token"

    def _interval(self) -> str:
        assert self.bootstrap is not None
        low, high = self.bootstrap.lower(), self.bootstrap.upper()
        if self.measurement.kind == "score":
            return f"{low:.1%} to {high:.1%} of the base's score"
        return f"the loss changed by {low:+.3f} to {high:+.3f} nats per token"

    def _shown(self, limit: float) -> str:
        return f"{limit:.1%}" if self.measurement.kind == "score" else f"{limit:.2f}"

    def _more_questions(self, tails: _Tails) -> int | None:
        """Further questions that would move the bound past the limit if the point stays: the distance between the two
        shrinks with the square root of the number of questions. None where the point is on the limit."""
        assert self.bootstrap is not None
        point, is_score = self.bootstrap.point, self.measurement.kind == "score"
        can_be_kept = (point > self.limit) == is_score
        tail = tails.retained if can_be_kept else tails.lost
        half_width = self.bootstrap.upper(tail) - point if point < self.limit else point - self.bootstrap.lower(tail)
        if is_score and can_be_kept:
            half_width += CONTINUITY / float(self.measurement.base.sum())
        distance = abs(point - self.limit)
        if not distance or not isfinite(half_width):
            return None
        return max(1, ceil(len(self.measurement.base) * ((half_width / distance) ** 2 - 1)))


def _test(ability: str, own: Measurement, limits: Limits, resamples: int, seed: int) -> _Test:
    limit = limits.of(ability, own.kind)
    if not np.isfinite(own.base).all():
        broken = int((~np.isfinite(own.base)).sum())
        unknown = f"the base's values are not finite numbers on {broken} of {len(own.base)} questions"
        return _Test(own, limit, None, "undecided", unknown)
    usable = len(own.base)
    if own.asked < MINIMUM_QUESTIONS or (usable < MINIMUM_QUESTIONS and 2 * usable >= own.asked):
        missing = MINIMUM_QUESTIONS - min(own.asked, usable)
        few = f"{usable} questions; a decision needs at least {MINIMUM_QUESTIONS}"
        return _Test(own, limit, None, "undecided", few, missing)
    if reason := _nothing_to_lose(own, limit, resamples, seed):
        return _Test(own, limit, None, "nothing to lose", reason)
    if not np.isfinite(own.tuned).all():
        broken = int((~np.isfinite(own.tuned)).sum())
        unknown = f"the tuned model's values are not finite numbers on {broken} of {len(own.tuned)} questions"
        return _Test(own, limit, None, "lost", unknown)
    if (groups := len(set(own.clusters))) < MINIMUM_CLUSTERS:
        few = f"the questions are on {groups} texts; a decision needs at least {MINIMUM_CLUSTERS}"
        return _Test(own, limit, None, "undecided", few)
    if own.kind == "score":
        drawn = bootstrap_ratio(own.base, own.tuned, own.clusters, resamples=resamples, seed=seed)
    else:
        drawn = bootstrap_mean(own.tuned - own.base, own.weights, own.clusters, resamples=resamples, seed=seed)
    return _Test(own, limit, drawn, None, "")


def _nothing_to_lose(own: Measurement, limit: float, resamples: int, seed: int) -> str | None:
    """Why the base does not have this ability; None where it has."""
    n, base = len(own.base), _mean(own.base, own.weights)
    if n < MINIMUM_QUESTIONS:
        return f"only {n} of the base's {own.asked} answers can be compared"
    if own.kind == "loss":
        drawn = bootstrap_mean(own.base, own.weights, own.clusters, resamples=resamples, seed=seed)
        is_above = drawn.upper() < own.chance - limit
        return None if is_above else f"the base's loss of {base:.2f} nats per token is not better than chance"
    total = float(own.base.sum())
    if total < MINIMUM_BASE_TOTAL:
        return f"the base is right on {total:.1f} of {n} questions, fewer than {MINIMUM_BASE_TOTAL:.0f}"
    if own.chance and wilson(round(total), n)[0] <= own.chance:
        return f"the base's {base:.1%} is not above chance ({own.chance:.0%}) at 95 %"
    return None


def _lost(family: Sequence[_Test], looks: int, size: int) -> list[_Test]:
    """The tests of the family that prove a loss, with a family-wise error of FAMILY_ERROR (Holm 1979).

    With several looks the error is TAIL, because the bounds of early looks are inexact for their small samples, and
    it is divided by the `size` of the whole family, of which early looks may test a part (Bonferroni).
    """
    if looks > 1:
        tail = repeated_tail(TAIL / max(1, size), looks)
        return [test for test in family if test.is_lost(tail)]
    ordered = sorted(((test.p_value(), place) for place, test in enumerate(family)))
    proven = []
    for rank, (p_value, place) in enumerate(ordered):
        if p_value > min(TAIL, FAMILY_ERROR / (len(family) - rank)):
            break
        proven.append(family[place])
    return proven


def _ability(own: AbilityScores, measures: tuple[MeasureResult, ...], limits: Limits) -> AbilityResult:
    found = {measure.status for measure in measures}
    proving = {measure.status for part, measure in zip(own.measurements, measures, strict=True) if part.proves}
    status: Status
    if own.practised is not None:
        status = "practised"
    elif "lost" in found:
        status = "lost"
    elif proving == {"nothing to lose"}:
        # A second look proves nothing by itself.
        status = "nothing to lose"
    else:
        status = "undecided" if "undecided" in found or not found else "retained"
    counted = status in DECIDING and limits.counts(own.name)
    return AbilityResult(own.name, status, counted, own.practised, measures)


def _overall(results: Sequence[AbilityResult]) -> tuple[Verdict, str]:
    counted = [own for own in results if own.counted]
    lost = [own.name for own in counted if own.status == "lost"]
    undecided = [own.name for own in counted if own.status == "undecided"]
    measured = f"{len(counted)} unpractised abilities counted"
    if lost:
        return "fail", f"Lost: {', '.join(lost)} ({measured})."
    if undecided:
        return "undecided", f"No decision yet on: {', '.join(undecided)} ({measured})."
    if len(counted) < MINIMUM_ABILITIES:
        return "undecided", f"Only {measured}; a pass needs at least {MINIMUM_ABILITIES}."
    return "pass", f"All {measured} are retained: {', '.join(own.name for own in counted)}."


def _mean(values: FloatArray, weights: FloatArray) -> float:
    return float(values.sum() / weights.sum()) if len(values) else float("nan")
