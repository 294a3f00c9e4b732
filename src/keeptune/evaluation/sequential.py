"""Group-sequential bounds: the level of each look of a test that may stop at any of several looks.

Looks come after equal numbers of questions, and all use the same bound (Pocock 1977). The bound is computed by the
recursive integration of Armitage, McPherson & Rowe 1969 for sums of independent normal increments. The values equal
those of Jennison & Turnbull 2000, table 2.1. bench/gate_simulation.py checks the error rates on bootstrap intervals.
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from statistics import NormalDist

import numpy as np

MAXIMUM_LOOKS = 10

_NORMAL = NormalDist()
_GRID = np.linspace(-12.0, 12.0, 4001)
_STEP = float(_GRID[1] - _GRID[0])


@cache
def repeated_tail(tail: float, looks: int) -> float:
    """The one-sided level of each look that keeps the error over all `looks` looks at `tail`.

    It is 1 − Φ(b), where b solves `crossing_probability(b, looks)` = tail.

    Raises:
        ValueError: if `looks` is not between 1 and MAXIMUM_LOOKS.

    >>> round(NormalDist().inv_cdf(1 - repeated_tail(0.025, 5)), 3)
    2.413
    """
    if looks == 1:
        return tail
    if not 1 < looks <= MAXIMUM_LOOKS:
        raise ValueError(f"looks must be between 1 and {MAXIMUM_LOOKS} (got {looks}); the grid of sums ends there")
    low, high = _NORMAL.inv_cdf(1 - tail), _NORMAL.inv_cdf(1 - tail / looks)
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if crossing_probability(middle, looks) > tail else (low, middle)
    return 1 - _NORMAL.cdf((low + high) / 2)


def crossing_probability(bound: float, looks: int) -> float:
    """P(S_k > bound · √k for some k ≤ looks), where S_k is the sum of k independent standard normal increments.

    This is the probability that a standardized sum exceeds `bound` at one of several equally spaced looks. Densities of
    S_k are computed on a grid, in units of the standard deviation at the first look.
    """
    kernel = np.exp(-0.5 * _GRID**2) / sqrt(2 * np.pi) * _STEP
    density = kernel.copy()
    crossed = 0.0
    for look in range(1, looks + 1):
        inside = np.minimum(1.0, np.maximum(0.0, (bound * sqrt(look) - _GRID) / _STEP + 0.5))
        stopped = density * (1 - inside)
        crossed += float(stopped.sum())
        density = np.convolve(density * inside, kernel, mode="same")
    return crossed
