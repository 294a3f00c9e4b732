"""Confidence intervals and paired tests for two models that answer the same questions.

All comparisons are paired by question. The bootstrap draws whole clusters, such as the questions on one paragraph,
because such questions are not independent: drawn one by one, their interval would be too narrow.

Sources: Wilson 1927; McNemar 1947; Efron & Tibshirani 1993; Hesterberg 2014, "What Teachers Should Know about the
Bootstrap" (arXiv 1411.5279); Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640).
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
"""Maximum number of cluster indices in memory at a time."""

_MINIMUM_TAIL_DRAWS = 3
"""Minimum number of draws beyond a bound for the order of draws to determine it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with the ends of its two-sided 95 % confidence interval."""

    point: float
    low95: float
    high95: float


@dataclass(frozen=True, slots=True)
class Ratio(Estimate):
    """Tuned over base; 1 means unchanged. `point` is nan if the base scored 0."""


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """Tuned minus base, as a mean per question; 0 means unchanged."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A statistic with its bootstrap distribution over clusters, which gives one-sided bounds at any level.

    `draws` are sorted. The number of draws without a value is `undefined`. They count as 0 at the lower end and as
    infinity at the upper end. A bound is always a drawn value: it is rounded outwards and never interpolated.
    Shape: draws (resamples − undefined,).
    """

    point: float
    draws: FloatArray
    clusters: int
    undefined: int = 0

    def lower(self, tail: float = 0.025) -> float:
        """The lower confidence bound: the true value is below it with probability `tail`."""
        share = _expanded_tail(tail, self.clusters)
        index = floor(share * self._last_index) - self.undefined
        bound = float(self.draws[index]) if index >= 0 else 0.0
        return min(bound, self.point - self._normal_distance(share)) if self._is_unresolved(share) else bound

    def upper(self, tail: float = 0.025) -> float:
        """The upper confidence bound: the true value is above it with probability `tail`."""
        share = _expanded_tail(tail, self.clusters)
        index = ceil((1 - share) * self._last_index)
        bound = float(self.draws[index]) if index < len(self.draws) else inf
        return max(bound, self.point + self._normal_distance(share)) if self._is_unresolved(share) else bound

    def _is_unresolved(self, share: float) -> bool:
        """Whether too few draws lie beyond the bound for their order to determine it."""
        return share > 0 and share * (self._last_index + 1) < _MINIMUM_TAIL_DRAWS and self.undefined == 0

    def _normal_distance(self, share: float) -> float:
        """The distance of the bound from the point in the normal approximation: −Φ⁻¹(share) · sd(draws)."""
        return -_NORMAL.inv_cdf(share) * float(self.draws.std())

    @property
    def _last_index(self) -> int:
        return len(self.draws) + self.undefined - 1


@dataclass(frozen=True, slots=True)
class McNemar:
    """Number of questions that only the base (`lost`) or only tuned (`gained`) got right, and the two-sided p-value."""

    lost: int
    gained: int
    p_value: float


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) without trials.

    With p = successes / n and z = 1.96, its ends are (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n). Unlike the
    normal approximation p ± z √(p(1 − p)/n), it stays within 0 and 1 and holds for few trials.

    Raises:
        DataError: if `successes` is not between 0 and `trials`.
    """
    if not 0 <= successes <= trials:
        raise DataError(
            f"successes must be between 0 and trials (got {successes} of {trials}); count both over the same questions"
        )
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
    """sum(tuned) / sum(base) with its 95 % interval from a paired cluster bootstrap; equal arrays give exactly [1, 1].

    A resample in which the base scores 0 has no ratio. It counts as 0 at the lower end and as infinity at the upper
    end. It can thus widen the interval and leave a gate undecided, but it never helps to pass or fail it. A single
    cluster shows no spread, so its interval is [0, ∞].

    Args:
        base: scores of 0 or more. Shape: (questions,).
        tuned: scores of 0 or more, in the same order. Shape: (questions,).
        clusters: the cluster of each question.

    Raises:
        DataError: if a score is negative or not finite, or if the lengths differ or are 0.
    """
    bootstrap = bootstrap_ratio(base, tuned, clusters, resamples=resamples, seed=seed)
    return Ratio(bootstrap.point, bootstrap.lower(), bootstrap.upper())


def bootstrap_ratio(
    base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Bootstrap:
    """The bootstrap distribution of sum(tuned) / sum(base). Arguments and errors are those of `paired_ratio`."""
    _check_pairs(base, tuned, clusters)
    if base.min() < 0 or tuned.min() < 0:
        raise DataError("a ratio needs scores of 0 or more (got a negative score); use the difference instead")
    # 1 + gain / base instead of tuned / base: sums of equal arrays may differ in the last bit, zeros do not.
    point = float(1 + (tuned - base).sum() / base.sum()) if base.sum() > 0 else nan
    cluster_count = len(set(clusters))
    if cluster_count == 1:
        return Bootstrap(point, np.empty(0), 1, resamples)
    gains, bases = _resampled_sums(tuned - base, base, clusters, resamples, seed)
    is_defined = bases > 0
    ratios = 1 + gains[is_defined] / bases[is_defined]
    return Bootstrap(point, np.sort(ratios), cluster_count, resamples - len(ratios))


def paired_difference(
    base: FloatArray, tuned: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Difference:
    """mean(tuned) − mean(base) with its 95 % interval from a paired cluster bootstrap. Shapes: (questions,).

    Raises:
        DataError: if a score is not finite, or if the lengths differ or are 0.
    """
    _check_pairs(base, tuned, clusters)
    bootstrap = bootstrap_weighted_mean(tuned - base, np.ones_like(base), clusters, resamples=resamples, seed=seed)
    return Difference(bootstrap.point, bootstrap.lower(), bootstrap.upper())


def weighted_mean(sums: FloatArray, sizes: FloatArray, *, resamples: int = 10_000, seed: int) -> Estimate:
    """sum(sums) / sum(sizes) with its 95 % interval from a bootstrap over parts, such as a loss per token over texts.

    Shapes: sums, sizes (parts,).

    Raises:
        DataError: if a size is not positive, if a value is not finite, or if the lengths differ or are 0.
    """
    bootstrap = bootstrap_weighted_mean(sums, sizes, range(len(sums)), resamples=resamples, seed=seed)
    return Estimate(bootstrap.point, bootstrap.lower(), bootstrap.upper())


def bootstrap_weighted_mean(
    sums: FloatArray, sizes: FloatArray, clusters: Sequence[Hashable], *, resamples: int = 10_000, seed: int
) -> Bootstrap:
    """The bootstrap distribution of sum(sums) / sum(sizes) over clusters. Shapes: sums, sizes (parts,).

    Raises:
        DataError: as in `weighted_mean`.
    """
    _check_pairs(sums, sizes, clusters)
    if sizes.min() <= 0:
        raise DataError(f"the size of every part must be > 0 (got {sizes.min():g}); leave out empty parts")
    totals, amounts = _resampled_sums(sums, sizes, clusters, resamples, seed)
    return Bootstrap(float(sums.sum() / sizes.sum()), np.sort(totals / amounts), len(set(clusters)))


def mcnemar(base_correct: BoolArray, tuned_correct: BoolArray) -> McNemar:
    """The exact two-sided McNemar test (McNemar 1947). Shapes: (questions,).

    Under the null hypothesis, a question that changed was lost or gained with probability ½ each. With k = min(lost,
    gained) and n = lost + gained, p = min(1, 2 · Σ_{i ≤ k} C(n, i) / 2ⁿ). The test treats questions as independent,
    so its p-value is smaller than a clustered interval suggests.

    Raises:
        DataError: if the two arrays have different lengths.
    """
    if base_correct.shape != tuned_correct.shape:
        raise DataError(
            f"base has {base_correct.size} answers and tuned has {tuned_correct.size}; score both on the same questions"
        )
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
            f"base, tuned and clusters must have one entry per question and at least one question (got {base.shape}, "
            f"{tuned.shape} and {len(clusters)}); score both models on the same questions"
        )
    if not (np.isfinite(base).all() and np.isfinite(tuned).all()):
        raise DataError("a score is not a finite number; look for it in the records of the base and the tuned model")


def _resampled_sums(
    first: FloatArray, second: FloatArray, clusters: Sequence[Hashable], resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Sums of both arrays over `resamples` samples of clusters, drawn with replacement.

    Each sample has as many clusters as the data. Clusters are drawn whole, so only their sums are needed. The samples
    are drawn in blocks to limit the memory. Shapes: first, second (questions,); results (resamples,).
    """
    numbers: dict[Hashable, int] = {}
    cluster_of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    first_sums, second_sums = np.bincount(cluster_of, first), np.bincount(cluster_of, second)
    generator = np.random.default_rng(seed)
    rows = max(1, _DRAWS_PER_BLOCK // len(numbers))
    first_totals, second_totals = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        indices = generator.integers(len(numbers), size=(block.stop - start, len(numbers)))
        first_totals[block] = first_sums[indices].sum(axis=1)
        second_totals[block] = second_sums[indices].sum(axis=1)
    return first_totals, second_totals


def _expanded_tail(tail: float, clusters: int) -> float:
    """The share of draws beyond a one-sided bound at level `tail`: Φ(−√(n / (n − 1)) · t_{n−1}(tail)) for n clusters.

    The bootstrap of few clusters is too narrow by the factor √((n − 1) / n), and it corresponds to the normal instead
    of Student's distribution. Expanded percentiles correct both (Hesterberg 2014). A single cluster shows
    no spread, so the share is 0.
    """
    if clusters == 1:
        return 0.0
    return _NORMAL.cdf(-sqrt(clusters / (clusters - 1)) * _student_quantile(tail, clusters - 1))


def _student_quantile(tail: float, freedom: float) -> float:
    """The quantile of Student's t distribution with probability `tail` above it (Fisher & Cornish 1960).

    Uses the first terms of the expansion around the normal quantile. With a tail of 2.5 %, the error is below 0.2 %
    from 5 degrees of freedom on.
    """
    z = _NORMAL.inv_cdf(1 - tail)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
