"""A whole corpus with the shape of the contest's train.json, for trials and load tests where the real one is absent.

It has the real one's mix of kinds, ranges, formats and order. Duplicates are not planted: as in the original they
come from drawing often out of a small space (45 fractions, 100 masses, 40,200 equations).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from keeptune.errors import DataError
from keeptune.skill import story
from keeptune.skill.arithmetic.kind import Kind
from keeptune.skill.arithmetic.kinds import KINDS

ENGLISH = "english"

Refused = Callable[[str, str], bool]
"""Whether a problem, given with its solution, must not be written."""

MOST_DRAWS = 100_000
"""For one problem. Of a kind with few problems, the last ones that are not refused take many draws."""

# Rows of each kind in the original, before duplicates are dropped. Its published counts are after that: the four
# operations have no duplicates, and the other counts are what gives the published one when drawn at random.
# They add up to the 800,000 Chinese and the 9,993 English rows.
ORIGINAL_ROWS = {
    "add": 90_113,
    "sub": 89_366,
    "mul": 89_902,
    "div": 89_966,
    "power": 39_873,
    "sqrt": 40_013,
    "equation": 241_007,
    "mean": 19_712,
    "function": 20_048,
    "area": 20_136,
    "mass": 20_134,
    "discount": 9_877,
    "sales": 9_853,
    "fraction": 20_000,
    ENGLISH: 9_993,
}


def mix(rows: int) -> dict[str, int]:
    """How many of so many rows are of each kind: the original's shares, rounded by largest remainder."""
    total = sum(ORIGINAL_ROWS.values())
    counts = {kind: rows * original // total for kind, original in ORIGINAL_ROWS.items()}
    missing = rows - sum(counts.values())
    by_remainder = sorted(ORIGINAL_ROWS, key=lambda kind: rows * ORIGINAL_ROWS[kind] % total, reverse=True)
    for kind in by_remainder[:missing]:
        counts[kind] += 1
    return counts


def corpus(rows: int, generator_seed: int, refused: Refused | None = None) -> Iterator[dict[str, str]]:
    """Rows {"problem", "solution"}: first the Chinese kinds in random order, then the English ones, as in the
    original. The same seed gives the same rows. In place of a refused problem another of its kind is drawn.

    errors: DataError when nearly all problems of a kind are refused.
    """
    generator = random.Random(generator_seed)
    counts = mix(rows)
    kinds = [kind for kind in KINDS for _ in range(counts[kind.name])]
    generator.shuffle(kinds)
    for kind in [*kinds, *[None] * counts[ENGLISH]]:
        problem, solution = _drawn(kind, generator, refused)
        yield {"problem": problem, "solution": solution}


def _drawn(kind: Kind[Any] | None, generator: random.Random, refused: Refused | None) -> tuple[str, str]:
    """A problem that is not refused, and its solution; English where there is no kind."""
    for _ in range(MOST_DRAWS):
        if kind is None:
            problem, solution = story.tell(generator)
        else:
            drawn = kind.random(generator)
            problem, solution = kind.write(drawn), kind.raw_solution(drawn)
        if refused is None or not refused(problem, solution):
            return problem, solution
    raise DataError(
        f"no problem of the kind {kind.name if kind else ENGLISH} is left: all of {MOST_DRAWS:,} that were drawn, or "
        "their twins, are in the excluded files; take some of that kind out of those files"
    )
