"""Retention verdict over abilities: which abilities of the base model the tuned model has kept.

An ability has one or more measures, each with paired values of base and tuned. A measure is `retained` if its 95 %
interval proves that the loss is within the limit. It is `lost` if the interval proves a loss beyond the limit,
Holm-corrected over all tested measures. Otherwise it is `undecided`. An ability is retained if all its measures are. An
ability that the base does not have has `nothing to lose`; one that training practised is reported and never counted.

The run passes if all counted abilities are retained and at least three unpractised abilities were counted. Each ability
must pass by itself, so the pass needs no correction (intersection–union test, Berger 1982).

The gate on the reading score alone is in reading_gate.py. Runs store the reasons written here and `verify` compares
them, so their wording must not change.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite, log
from typing import Literal

import numpy as np

from keeptune.evaluation.sequential import repeated_tail
from keeptune.evaluation.statistics import Bootstrap, FloatArray, bootstrap_ratio, bootstrap_weighted_mean, wilson

Status = Literal["retained", "lost", "undecided", "nothing to lose", "practised"]
Verdict = Literal["pass", "fail", "undecided"]
Kind = Literal["score", "loss"]

DECIDING: tuple[Status, ...] = ("retained", "lost", "undecided")
"""Statuses of abilities that can decide the verdict."""

TAIL = 0.025
"""One-sided error of each bound, as for the ends of a two-sided 95 % interval."""

FAMILY_ERROR = 0.05
"""Probability that any measure is called lost although none is beyond its limit. Each bound still uses at most TAIL."""

MINIMUM_ABILITIES = 3
"""Unpractised abilities that must be counted before a run can pass."""

MINIMUM_QUESTIONS = 30
MINIMUM_CLUSTERS = 10
"""With fewer, the bootstrap interval is too narrow (results/intervals.json), so the measure is undecided."""

MINIMUM_BASE_TOTAL = 10.0
"""Minimum sum of the base's scores. With fewer than ten right answers, one more or less changes the ratio by 10 %."""

CONTINUITY = 0.5
"""Continuity correction in right answers (Yates 1934). If hardly any answer changed, the bootstrap shows no spread."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Values of one measure on the same questions, for base and tuned. Shapes: all arrays (questions,).

    Attributes:
        kind: "score" for values from 0 to 1, of which more is better; "loss" for nats.
        base: the base's value of each question; of a loss, its sum over the tokens of the question.
        tuned: the same for the tuned model.
        clusters: the cluster of each question. The bootstrap draws whole clusters.
        weights: the number of tokens of each question for a loss; 1 for a score.
        chance: the mean score of a model that ignores the question, or the loss per token of a uniform prediction.
        question_count: the number of questions that the base answered. Some of the answers may be unusable.
        proves: False for a second check. It is retained if its point is within the limit, and it can be lost.
    """

    name: str
    kind: Kind
    base: FloatArray
    tuned: FloatArray
    clusters: Sequence[Hashable]
    weights: FloatArray
    chance: float
    question_count: int
    proves: bool = True


@dataclass(frozen=True, slots=True)
class AbilityScores:
    """The measurements of one ability, the headline first. `practised` is the reason why training practised it, or
    None."""

    name: str
    measurements: Sequence[Measurement]
    practised: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be lost. Values by ability override the general ones.

    A score must keep `threshold` of the base's score. A loss may grow by `margin` nats per token. `counted` names the
    abilities that decide; None counts all.
    """

    threshold: float = 0.9
    margin: float = 0.10
    thresholds: Mapping[str, float] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    counted: frozenset[str] | None = None

    def counts(self, ability: str) -> bool:
        """Whether this ability is counted, unless training practised it."""
        return self.counted is None or ability in self.counted

    def limit_for(self, ability: str, kind: Kind) -> float:
        """The threshold or margin of a measure of this ability."""
        if kind == "score":
            return self.thresholds.get(ability, self.threshold)
        return self.margins.get(ability, self.margin)


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """The status of one measure, with its interval.

    For scores, `point` is tuned / base. For losses, it is tuned − base in nats per token. `more_questions` estimates
    how many further questions would decide the measure; None if that is unknown.
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
    """The status of an ability. It is lost or undecided if one of its measures is."""

    name: str
    status: Status
    counted: bool
    practised: str | None
    measures: tuple[MeasureResult, ...]

    @property
    def headline(self) -> MeasureResult:
        """The measure that tables and plots show."""
        return self.measures[0]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The overall verdict, its reason in one sentence, and the results of all abilities."""

    verdict: Verdict
    reason: str
    abilities: tuple[AbilityResult, ...]


def judge(
    abilities: Sequence[AbilityScores], limits: Limits, *, resamples: int = 10_000, seed: int = 0, looks: int = 1
) -> GateResult:
    """The verdict on all abilities.

    With `looks` > 1, the growing data may be judged up to `looks` times, and testing may stop at any of them. The
    bounds are then widened to keep the error over all looks (sequential.py), and Bonferroni replaces Holm.
    """
    tests = [[_test(a.name, data, limits, resamples, seed) for data in a.measurements] for a in abilities]
    counted = [ability.practised is None and limits.counts(ability.name) for ability in abilities]
    deciding = [test for group, counts in zip(tests, counted, strict=True) if counts for test in group]
    family, size = [test for test in deciding if test.bootstrap is not None], len(deciding)
    lost = {id(test) for test in _proven_losses(family, looks, size)}
    strictest = repeated_tail(TAIL / max(1, size), looks) if looks > 1 else FAMILY_ERROR / max(1, len(family))
    tails = _Tails(repeated_tail(TAIL, looks), min(TAIL, strictest))
    results = []
    for ability, group, counts in zip(abilities, tests, counted, strict=True):
        measures = tuple(test.result(id(test) in lost if counts else None, tails) for test in group)
        results.append(_ability_result(ability, measures, limits))
    verdict, reason = _overall(results)
    return GateResult(verdict, reason, tuple(results))


@dataclass(frozen=True, slots=True)
class _Tails:
    """One-sided levels of the bounds: to call a measure retained, and the strictest one to call it lost."""

    retained: float
    lost: float


@dataclass(slots=True, eq=False)
class _Test:
    """A measure with its bootstrap distribution, or with a status that follows without one."""

    measurement: Measurement
    limit: float
    bootstrap: Bootstrap | None
    status: Status | None
    reason: str
    more_questions: int | None = None

    def is_lost(self, tail: float) -> bool:
        """Whether the bound at level `tail` proves a loss beyond the limit."""
        assert self.bootstrap is not None
        if self.measurement.kind == "score":
            return self.bootstrap.upper(tail) < self.limit
        return self.bootstrap.lower(tail) > self.limit

    def is_retained(self, tail: float) -> bool:
        """Whether the bound at this level proves that the loss is within the limit; the point, for a second check."""
        assert self.bootstrap is not None
        if not self.measurement.proves:
            point = self.bootstrap.point
            return point >= self.limit if self.measurement.kind == "score" else point <= self.limit
        if self.measurement.kind == "score":
            return self.bootstrap.lower(tail) - CONTINUITY / float(self.measurement.base.sum()) >= self.limit
        return self.bootstrap.upper(tail) <= self.limit

    def can_be_retained(self, tail: float) -> bool:
        """Whether the base has enough right answers for a proof: limit ** (right answers) ≤ tail. The left side is the
        probability that tuning loses no answer if it loses each one with probability 1 − limit."""
        if self.measurement.kind == "loss" or self.limit >= 1 or not self.measurement.proves:
            return True
        return float(self.measurement.base.sum()) >= log(tail) / log(self.limit)

    def p_value(self) -> float:
        """The smallest level at which the measure is lost, to three digits; 0.5 if the point is within the limit."""
        if not self.is_lost(0.499):
            return 0.5
        low, high = 1e-7, 0.499
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.is_lost(middle) else (middle, high)
        return high

    def result(self, lost: bool | None, tails: _Tails) -> MeasureResult:
        """The result. `lost` is the decision of the corrected test; None for an ability outside the family."""
        data, bootstrap = self.measurement, self.bootstrap
        base, tuned = (_mean(values, data.weights) for values in (data.base, data.tuned))
        if bootstrap is None:
            assert self.status is not None
            interval = (float("nan"),) * 3
            decision = self.status, self.reason, self.more_questions
        else:
            interval = (bootstrap.point, bootstrap.lower(), bootstrap.upper())
            decision = self._decide(self.is_lost(TAIL) if lost is None else lost, tails)
        return MeasureResult(data.name, data.kind, len(data.base), base, tuned, *interval, self.limit, *decision)

    def _decide(self, lost: bool, tails: _Tails) -> tuple[Status, str, int | None]:
        """The status, its reason, and the number of further questions that would decide the measure."""
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
        """Number of further questions that would move the bound past the limit if the point stays where it is; None if
        the point is on the limit. A half-width is proportional to 1 / √n: n · ((half-width / distance)² − 1)."""
        assert self.bootstrap is not None
        point, is_score = self.bootstrap.point, self.measurement.kind == "score"
        is_within_limit = (point > self.limit) == is_score
        tail = tails.retained if is_within_limit else tails.lost
        half_width = self.bootstrap.upper(tail) - point if point < self.limit else point - self.bootstrap.lower(tail)
        if is_score and is_within_limit:
            half_width += CONTINUITY / float(self.measurement.base.sum())
        distance = abs(point - self.limit)
        if not distance or not isfinite(half_width):
            return None
        return max(1, ceil(len(self.measurement.base) * ((half_width / distance) ** 2 - 1)))


def _test(ability: str, data: Measurement, limits: Limits, resamples: int, seed: int) -> _Test:
    """The test of one measure."""
    limit = limits.limit_for(ability, data.kind)
    if not np.isfinite(data.base).all():
        broken = int((~np.isfinite(data.base)).sum())
        unknown = f"the base's values are not finite numbers on {broken} of {len(data.base)} questions"
        return _Test(data, limit, None, "undecided", unknown)
    usable = len(data.base)
    if data.question_count < MINIMUM_QUESTIONS or (usable < MINIMUM_QUESTIONS and 2 * usable >= data.question_count):
        missing = MINIMUM_QUESTIONS - min(data.question_count, usable)
        few = f"{usable} questions; a decision needs at least {MINIMUM_QUESTIONS}"
        return _Test(data, limit, None, "undecided", few, missing)
    if reason := _nothing_to_lose(data, limit, resamples, seed):
        return _Test(data, limit, None, "nothing to lose", reason)
    if not np.isfinite(data.tuned).all():
        broken = int((~np.isfinite(data.tuned)).sum())
        unknown = f"the tuned model's values are not finite numbers on {broken} of {len(data.tuned)} questions"
        return _Test(data, limit, None, "lost", unknown)
    if (groups := len(set(data.clusters))) < MINIMUM_CLUSTERS:
        few = f"the questions are on {groups} texts; a decision needs at least {MINIMUM_CLUSTERS}"
        return _Test(data, limit, None, "undecided", few)
    if data.kind == "score":
        bootstrap = bootstrap_ratio(data.base, data.tuned, data.clusters, resamples=resamples, seed=seed)
    else:
        change = data.tuned - data.base
        bootstrap = bootstrap_weighted_mean(change, data.weights, data.clusters, resamples=resamples, seed=seed)
    return _Test(data, limit, bootstrap, None, "")


def _nothing_to_lose(data: Measurement, limit: float, resamples: int, seed: int) -> str | None:
    """Why the base does not have the ability; None if it has."""
    n, base = len(data.base), _mean(data.base, data.weights)
    if n < MINIMUM_QUESTIONS:
        return f"only {n} of the base's {data.question_count} answers can be compared"
    if data.kind == "loss":
        bootstrap = bootstrap_weighted_mean(data.base, data.weights, data.clusters, resamples=resamples, seed=seed)
        is_better = bootstrap.upper() < data.chance - limit
        return None if is_better else f"the base's loss of {base:.2f} nats per token is not better than chance"
    total = float(data.base.sum())
    if total < MINIMUM_BASE_TOTAL:
        return f"the base is right on {total:.1f} of {n} questions, fewer than {MINIMUM_BASE_TOTAL:.0f}"
    if data.chance and wilson(round(total), n)[0] <= data.chance:
        return f"the base's {base:.1%} is not above chance ({data.chance:.0%}) at 95 %"
    return None


def _proven_losses(family: Sequence[_Test], looks: int, size: int) -> list[_Test]:
    """The tests that prove a loss, with a family-wise error of FAMILY_ERROR (Holm 1979).

    With m tests, the k-th smallest p-value is compared with FAMILY_ERROR / (m − k + 1), and with TAIL. With several
    looks, the error is TAIL, because early bounds are inexact for small samples. It is divided by the `size` of the
    whole family, because early looks may test only a part of it (Bonferroni).
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


def _ability_result(ability: AbilityScores, measures: tuple[MeasureResult, ...], limits: Limits) -> AbilityResult:
    statuses = {measure.status for measure in measures}
    proving = {measure.status for data, measure in zip(ability.measurements, measures, strict=True) if data.proves}
    status: Status
    if ability.practised is not None:
        status = "practised"
    elif "lost" in statuses:
        status = "lost"
    elif proving == {"nothing to lose"}:
        # A second check proves nothing by itself.
        status = "nothing to lose"
    else:
        status = "undecided" if "undecided" in statuses or not statuses else "retained"
    counted = status in DECIDING and limits.counts(ability.name)
    return AbilityResult(ability.name, status, counted, ability.practised, measures)


def _overall(results: Sequence[AbilityResult]) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    counted = [ability for ability in results if ability.counted]
    lost = [ability.name for ability in counted if ability.status == "lost"]
    undecided = [ability.name for ability in counted if ability.status == "undecided"]
    measured = f"{len(counted)} unpractised abilities counted"
    if lost:
        return "fail", f"Lost: {', '.join(lost)} ({measured})."
    if undecided:
        return "undecided", f"No decision yet on: {', '.join(undecided)} ({measured})."
    if len(counted) < MINIMUM_ABILITIES:
        return "undecided", f"Only {measured}; a pass needs at least {MINIMUM_ABILITIES}."
    return "pass", f"All {measured} are retained: {', '.join(ability.name for ability in counted)}."


def _mean(values: FloatArray, weights: FloatArray) -> float:
    """sum(values) / sum(weights); nan without values."""
    return float(values.sum() / weights.sum()) if len(values) else float("nan")
