"""Group-sequential bounds: published values, order, and the error rate that they promise."""

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from keeptune.evaluation.sequential import crossing_probability, repeated_tail

NORMAL = NormalDist()
POCOCK = {2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 10: 2.555}
"""Jennison & Turnbull 2000, table 2.1: constants for a two-sided error of 5 %."""


@pytest.mark.parametrize(("looks", "bound"), POCOCK.items())
def test_bounds_are_those_of_the_published_table(looks: int, bound: float) -> None:
    assert NORMAL.inv_cdf(1 - repeated_tail(0.025, looks)) == pytest.approx(bound, abs=6e-4)


@pytest.mark.parametrize("tail", [0.025, 0.025 / 8, 0.01])
def test_one_look_keeps_the_tail(tail: float) -> None:
    assert repeated_tail(tail, 1) == tail


def test_one_look_crosses_with_the_normal_tail() -> None:
    for bound in (1.0, 1.96, 3.0):
        assert crossing_probability(bound, 1) == pytest.approx(1 - NORMAL.cdf(bound), rel=0.01)


def test_each_further_look_needs_a_stricter_level() -> None:
    tails = [repeated_tail(0.025, looks) for looks in (1, 2, 3, 4, 5, 10)]
    assert all(later < earlier for earlier, later in pairwise(tails))


@pytest.mark.parametrize("looks", [2, 5, 10])
def test_a_smaller_error_needs_a_stricter_level(looks: int) -> None:
    tails = [repeated_tail(tail, looks) for tail in (0.05, 0.025, 0.025 / 3, 0.025 / 13)]
    assert all(later < earlier for earlier, later in pairwise(tails))


@pytest.mark.parametrize("looks", [2, 3, 5, 10])
@pytest.mark.parametrize("tail", [0.025, 0.025 / 8])
def test_the_level_lies_between_bonferroni_and_no_correction(looks: int, tail: float) -> None:
    assert tail / looks < repeated_tail(tail, looks) < tail


def test_crossing_falls_with_the_bound_and_rises_with_the_looks() -> None:
    by_bound = [crossing_probability(bound, 5) for bound in (0.5, 1.5, 2.0, 2.5, 3.5)]
    assert by_bound == sorted(by_bound, reverse=True)
    by_looks = [crossing_probability(2.0, looks) for looks in (1, 2, 3, 5, 10)]
    assert by_looks == sorted(by_looks)


@pytest.mark.parametrize("looks", [2, 5, 10])
@pytest.mark.parametrize("tail", [0.025, 0.025 / 8])
def test_simulated_sums_cross_the_bound_at_the_nominal_rate(looks: int, tail: float) -> None:
    sums = 400_000
    bound = NORMAL.inv_cdf(1 - repeated_tail(tail, looks))
    steps = np.random.default_rng(20_261_201).standard_normal((sums, looks))
    standardized = steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    crossed = float((standardized > bound).any(axis=1).mean())
    standard_error = (tail * (1 - tail) / sums) ** 0.5
    assert abs(crossed - tail) < 4 * standard_error
    assert abs(crossed - crossing_probability(bound, looks)) < 4 * standard_error
