"""How sure a score is: intervals and paired tests for the same questions asked of two models.

Base and tuned answer the same questions, so all comparisons are paired, and questions on one article or paragraph
share a fate, so the bootstrap draws whole clusters: as if they were independent, the interval would be too narrow.
Sources: Wilson 1927; McNemar 1947; Efron & Tibshirani 1993; Hesterberg 2014, "What Teachers Should Know about the
Bootstrap" (1411.5279); Miller 2024, "Adding Error Bars to Evals" (2411.00640).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from keeptune.errors import DataError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_NORMAL = NormalDist()
_NORMAL_95 = _NORMAL.inv_cdf(0.975)
_DRAWS_PER_BLOCK = 1 << 20
_FEWEST_DRAWS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value between the ends of its two-sided 95 % interval."""

    point: float
    low95: float
    high95: float


@dataclass(frozen=True, slots=True)
class Ratio(Estimate):
    """Tuned over base: 1 is as good as before. `point` is not a number (nan) where the base scored nothing."""


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """Tuned minus base, per question: 0 is as good as before."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A statistic and its bootstrap distribution over clusters, which gives one-sided bounds at any level.

    `draws` are sorted. `undefined` draws had no value: they count as 0 at the lower end and as infinity at the upper.
    Bounds are taken outwards to a value that was drawn, never between two.
    """

    point: float
    draws: FloatArray
    clusters: int
    undefined: int = 0

    def lower(self, tail: float = 0.025) -> float:
        """The bound that the truth is below with probability `tail`."""
        share = _expanded_tail(tail, self.clusters)
        place = floor(share * self._last) - self.undefined
        bound = float(self.draws[place]) if place >= 0 else 0.0
        return min(bound, self.point - self._reach(share)) if self._is_beyond_the_draws(share) else bound

    def upper(self, tail: float = 0.025) -> float:
        """The bound that the truth is above with probability `tail`."""
        share = _expanded_tail(tail, self.clusters)
        place = ceil((1 - share) * self._last)
        bound = float(self.draws[place]) if place < len(self.draws) else inf
        return max(bound, self.point + self._reach(share)) if self._is_beyond_the_draws(share) else bound

    def _is_beyond_the_draws(self, share: float) -> bool:
        """Whether too few draws lie beyond the bound for their order to say where it is."""
        return share > 0 and share * (self._last + 1) < _FEWEST_DRAWS and self.undefined == 0

    def _reach(self, share: float) -> float:
        """The distance of the bound from the point by the normal law, for shares that no draw resolves."""
        return -_NORMAL.inv_cdf(share) * float(self.draws.std())

    @property
    def _last(self) -> int:
        return len(self.draws) + self.undefined - 1


@dataclass(frozen=True, slots=True)
class McNemar:
    """Questions only the base got right, questions only the tuned model got right, and the two-sided p-value."""

    lost: int
    gained: int
    p_value: float


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (0, 1) where nothing was tried.

    Unlike the usual ± interval it stays within 0 and 1 and holds for few trials.
    """
    if not 0 <= successes <= trials:
        raise DataError(f"{successes} successes of {trials} trials is no share; count both over the same questions")
    if trials == 0:
        return 0.0, 1.0
    share, spread = successes / trials, _NORMAL_95**2 / trials
    centre = share + spread / 2
    half_width = sqrt(spread * (share * (1 - share) + spread / 4))
    low = 0.0 if successes == 0 else (centre - half_width) / (1 + spread)
    high = 1.0 if successes == trials else (centre + half_width) / (1 + spread)
    return low, high


def paired_ratio(
    base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Ratio:
    """sum(tuned) / sum(base) with its paired cluster-bootstrap interval; equal arrays give exactly [1, 1].

    A resample in which the base scores nothing has no ratio. It counts as 0 at the lower end and as infinity at
    the upper one: it can widen the interval, and so leave a gate undecided, but never help to pass or fail it.
    A single cluster shows no spread at all, so its interval is everything.
    """
    drawn = bootstrap_ratio(base, tuned, clusters, resamples=resamples, seed=seed)
    return Ratio(drawn.point, drawn.lower(), drawn.upper())


def bootstrap_ratio(
    base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Bootstrap:
    """The distribution behind `paired_ratio`, which gives bounds at any level."""
    _check_pairs(base, tuned, clusters)
    if base.min() < 0 or tuned.min() < 0:
        raise DataError("a ratio of scores needs scores of 0 or more; give the difference of these instead")
    # 1 + gain / base rather than tuned / base: sums of equal arrays may differ in the last bit, zeros do not.
    point = float(1 + (tuned - base).sum() / base.sum()) if base.sum() > 0 else nan
    drawn_from = len(set(clusters))
    if drawn_from == 1:
        return Bootstrap(point, np.empty(0), 1, resamples)
    gains, bases = _resampled_sums(tuned - base, base, clusters, resamples, seed)
    defined = bases > 0
    ratios = 1 + gains[defined] / bases[defined]
    return Bootstrap(point, np.sort(ratios), drawn_from, resamples - len(ratios))


def paired_difference(
    base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Difference:
    """mean(tuned) − mean(base) with its paired cluster-bootstrap interval."""
    _check_pairs(base, tuned, clusters)
    drawn = bootstrap_mean(tuned - base, np.ones_like(base), clusters, resamples=resamples, seed=seed)
    return Difference(drawn.point, drawn.lower(), drawn.upper())


def mean_of_parts(sums: FloatArray, sizes: FloatArray, *, resamples: int = 10_000, seed: int) -> Estimate:
    """sum(sums) / sum(sizes), such as a loss a token over texts, with its interval from drawing whole parts."""
    drawn = bootstrap_mean(sums, sizes, range(len(sums)), resamples=resamples, seed=seed)
    return Estimate(drawn.point, drawn.lower(), drawn.upper())


def bootstrap_mean(
    sums: FloatArray, sizes: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Bootstrap:
    """The distribution of sum(sums) / sum(sizes) over draws of whole clusters."""
    _check_pairs(sums, sizes, clusters)
    if sizes.min() <= 0:
        raise DataError("a mean over parts needs parts that hold something; leave empty ones out")
    totals, amounts = _resampled_sums(sums, sizes, clusters, resamples, seed)
    return Bootstrap(float(sums.sum() / sizes.sum()), np.sort(totals / amounts), len(set(clusters)))


def mcnemar(base_correct: BoolArray, tuned_correct: BoolArray) -> McNemar:
    """The exact McNemar test: would a fair coin split the questions that changed sides as unevenly as this?

    It treats the questions as independent, so beside a clustered interval its p-value is the more optimistic.
    """
    if base_correct.shape != tuned_correct.shape:
        raise DataError(f"base and tuned answered {base_correct.size} and {tuned_correct.size} questions; ask the same")
    lost = int((base_correct & ~tuned_correct).sum())
    gained = int((tuned_correct & ~base_correct).sum())
    changed = lost + gained
    term = tail = 1
    for count in range(min(lost, gained)):
        term = term * (changed - count) // (count + 1)
        tail += term
    return McNemar(lost, gained, min(1.0, 2 * tail / 2**changed))


def _check_pairs(base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable]) -> None:
    if not base.shape == tuned.shape == (len(clusters),) or len(clusters) == 0:
        raise DataError(
            f"base, tuned and clusters must tell of the same questions, but have {base.shape}, {tuned.shape} and "
            f"{len(clusters)} entries; score both models on one list, with at least one question"
        )
    if not (np.isfinite(base).all() and np.isfinite(tuned).all()):
        raise DataError("a score is not a finite number; look for it in the scores of the base and the tuned model")


def _resampled_sums(
    first: FloatArray, second: FloatArray, clusters: Sequence[Hashable], resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Both arrays summed over `resamples` draws of as many clusters as there are, with replacement.

    A cluster is drawn whole, so its sums are all that is needed of it; blocks keep the memory small.
    """
    numbers: dict[Hashable, int] = {}
    cluster_of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    first_sums, second_sums = np.bincount(cluster_of, first), np.bincount(cluster_of, second)
    generator = np.random.default_rng(seed)
    rows = max(1, _DRAWS_PER_BLOCK // len(numbers))
    first_totals, second_totals = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        drawn = generator.integers(len(numbers), size=(block.stop - start, len(numbers)))
        first_totals[block] = first_sums[drawn].sum(axis=1)
        second_totals[block] = second_sums[drawn].sum(axis=1)
    return first_totals, second_totals


def _expanded_tail(tail: float, clusters: int) -> float:
    """The share of the draws that lies beyond a bound which the truth exceeds with probability `tail`.

    The bootstrap of few clusters is too narrow by the factor √((n − 1) / n), and it takes the normal law where
    Student's holds. Hesterberg's expanded percentiles undo both. A single cluster shows no spread: 0.
    """
    if clusters == 1:
        return 0.0
    return _NORMAL.cdf(-sqrt(clusters / (clusters - 1)) * _student_quantile(tail, clusters - 1))


def _student_quantile(tail: float, freedom: float) -> float:
    """Student's t with `tail` above it, by the first terms of its expansion around the normal law
    (Fisher & Cornish 1960).

    For a tail of 2.5 % within 0.2 % of the truth from 5 degrees of freedom on.
    """
    z = _NORMAL.inv_cdf(1 - tail)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
