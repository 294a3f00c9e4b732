import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from keeptune.errors import DataError
from keeptune.evaluation.statistics import (
    Difference,
    FloatArray,
    Ratio,
    _student_quantile,
    mcnemar,
    paired_difference,
    paired_ratio,
    weighted_mean,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_reproduces_newcombe_1998_table_1(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    with pytest.raises(DataError):
        wilson(6, 5)


def test_equal_arrays_keep_exactly_everything() -> None:
    scores = np.random.default_rng(0).random(501)
    clusters = [f"article {number % 7}" for number in range(501)]
    assert paired_ratio(scores, scores.copy(), clusters, seed=1) == Ratio(1, 1, 1)
    assert paired_difference(scores, scores.copy(), clusters, seed=1) == Difference(0, 0, 0)


def test_a_proportional_loss_has_no_spread() -> None:
    base = np.random.default_rng(0).random(200)
    ratio = paired_ratio(base, base * 0.75, range(200), seed=1)
    assert (ratio.point, ratio.low95, ratio.high95) == pytest.approx((0.75, 0.75, 0.75), abs=1e-12)


def test_a_seed_gives_equal_results_twice_and_another_seed_others() -> None:
    generator = np.random.default_rng(3)
    base, tuned = generator.random(300), generator.random(300)
    first = paired_ratio(base, tuned, range(300), seed=7)
    assert first == paired_ratio(base, tuned, range(300), seed=7)
    assert first != paired_ratio(base, tuned, range(300), seed=8)
    assert first.low95 < first.point < first.high95


def test_the_order_of_the_blocks_has_no_effect() -> None:
    """20,000 clusters need many blocks of draws: the interval must be the one that the normal law predicts."""
    generator = np.random.default_rng(5)
    base = np.ones(20_000)
    tuned = generator.random(20_000) * 2
    difference = paired_difference(base, tuned, range(20_000), resamples=400, seed=1)
    half_width = 1.96 * tuned.std() / math.sqrt(20_000)
    assert difference.point == pytest.approx(tuned.mean() - 1)
    assert difference.high95 - difference.low95 == pytest.approx(2 * half_width, rel=0.15)


def test_correlated_questions_widen_the_interval() -> None:
    generator = np.random.default_rng(11)
    articles = np.repeat(np.arange(30), 25)
    base = np.full(750, 0.5)
    tuned = 0.5 + 0.2 * generator.standard_normal(30)[articles].clip(-2, 2)
    clustered = paired_ratio(base, tuned, articles.tolist(), seed=1)
    independent = paired_ratio(base, tuned, range(750), seed=1)
    assert clustered.point == independent.point
    widening = (clustered.high95 - clustered.low95) / (independent.high95 - independent.low95)
    assert widening == pytest.approx(5, rel=0.15)  # the square root of the 25 questions on each article


def f1_like(generator: np.random.Generator, clusters: NDArray[np.int_]) -> tuple[FloatArray, FloatArray, float]:
    """Scores between 0 and 1 whose passages share a fate, and the ratio that all such scores have."""
    fate = generator.normal(0, 0.1, clusters[-1] + 1)[clusters]
    base = generator.random(len(clusters))
    return base, 0.9 * base + 0.2 + fate * base, 0.9 + 0.2 / 0.5


def em_like(generator: np.random.Generator, clusters: NDArray[np.int_]) -> tuple[FloatArray, FloatArray, float]:
    """Right or wrong: a passage is easy or hard, loses some of its right answers, and may gain one."""
    passages = clusters[-1] + 1
    easy = generator.beta(2, 3, passages)[clusters]
    kept = generator.uniform(0.8, 1.0, passages)[clusters]
    base = (generator.random(len(clusters)) < easy).astype(np.float64)
    tuned = (generator.random(len(clusters)) < np.where(base > 0, kept, 0.06)).astype(np.float64)
    return base, tuned, (0.4 * 0.9 + 0.6 * 0.06) / 0.4


@pytest.mark.parametrize("scores", [f1_like, em_like])
def test_the_interval_covers_the_truth_95_times_in_100(
    scores: Callable[..., tuple[FloatArray, FloatArray, float]],
) -> None:
    """2,000 sets of 60 passages with 5 questions each, as the embedded reading set has them."""
    generator, clusters = np.random.default_rng(1), np.repeat(np.arange(60), 5)
    covered = 0
    for trial in range(2000):
        base, tuned, truth = scores(generator, clusters)
        ratio = paired_ratio(base, tuned, clusters.tolist(), resamples=1000, seed=trial)
        covered += ratio.low95 <= truth <= ratio.high95
    assert 0.94 <= covered / 2000 <= 0.96


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.5706), (10, 2.2281), (30, 2.0423), (100_000, 1.95999)])
def test_students_quantile_is_the_tables(freedom: int, quantile: float) -> None:
    assert _student_quantile(0.025, freedom) == pytest.approx(quantile, rel=2e-3)


def test_a_single_passage_proves_nothing() -> None:
    ratio = paired_ratio(np.ones(20), np.ones(20), ["the only one"] * 20, seed=1)
    assert (ratio.point, ratio.low95, ratio.high95) == (1, 0, math.inf)


def test_the_mean_of_parts_weighs_them_by_size() -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(20, 200, 400).astype(np.float64)
    means = generator.normal(3, 0.5, 400)
    found = weighted_mean(means * sizes, sizes, seed=1)
    assert found.point == pytest.approx(np.average(means, weights=sizes))
    spread = math.sqrt((((means - found.point) * sizes) ** 2).sum()) / sizes.sum()  # the delta method's
    assert found.high95 - found.low95 == pytest.approx(2 * 1.96 * spread, rel=0.05)
    with pytest.raises(DataError, match="must be > 0"):
        weighted_mean(np.ones(2), np.array([1.0, 0.0]), seed=1)


def test_a_base_that_scores_nothing_has_no_ratio() -> None:
    ratio = paired_ratio(np.zeros(20), np.ones(20), range(20), seed=1)
    assert math.isnan(ratio.point)
    assert (ratio.low95, ratio.high95) == (0, math.inf)


def test_resamples_without_a_base_score_only_widen() -> None:
    """One right answer in 20: it misses from 36 % of the resamples, so neither end can be known."""
    base = np.zeros(20)
    base[0] = 1
    ratio = paired_ratio(base, base, range(20), seed=1)
    assert (ratio.point, ratio.low95, ratio.high95) == (1, 0, math.inf)


@pytest.mark.parametrize(
    ("base", "tuned", "clusters"),
    [([1.0], [1.0, 1.0], 1), ([1.0], [1.0], 2), ([], [], 0), ([math.nan], [1.0], 1), ([-1.0], [1.0], 1)],
)
def test_unpaired_or_impossible_scores_are_refused(base: list[float], tuned: list[float], clusters: int) -> None:
    with pytest.raises(DataError):
        paired_ratio(np.array(base), np.array(tuned), range(clusters), seed=1)


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [(1, 9, 22 / 1024), (9, 1, 22 / 1024), (0, 5, 2 / 32), (3, 3, 1), (0, 0, 1), (2, 10, 158 / 4096)],
)
def test_mcnemar_by_hand(lost: int, gained: int, p_value: float) -> None:
    base = np.array([True] * lost + [False] * gained + [True, False])
    tuned = np.array([False] * lost + [True] * gained + [True, False])
    result = mcnemar(base, tuned)
    assert (result.lost, result.gained, result.p_value) == (lost, gained, p_value)


def test_mcnemar_of_many_questions() -> None:
    base = np.arange(10_000) < 4_900
    result = mcnemar(base, ~base)
    z = (5_100 - 4_900 - 1) / math.sqrt(10_000)  # the normal approximation with its continuity correction
    assert result.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-2)
    with pytest.raises(DataError):
        mcnemar(base, base[1:])
