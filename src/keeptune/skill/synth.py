"""A whole corpus with the shape of the contest's train.json, for trials and load tests where the real one is absent.

It has the real one's mix of kinds, ranges, formats and order. Duplicates are not planted: as in the original they
come from drawing often out of a small space (45 fractions, 100 masses, 40,200 equations).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from keeptune.skill import story
from keeptune.skill.arithmetic.kinds import KINDS

ENGLISH = "english"

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


def corpus(rows: int, generator_seed: int) -> Iterator[dict[str, str]]:
    """Rows {"problem", "solution"}: first the Chinese kinds in random order, then the English ones, as in the
    original. The same seed gives the same rows."""
    generator = random.Random(generator_seed)
    counts = mix(rows)
    kinds = [kind for kind in KINDS for _ in range(counts[kind.name])]
    generator.shuffle(kinds)
    for kind in kinds:
        drawn = kind.random(generator)
        yield {"problem": kind.write(drawn), "solution": kind.raw_solution(drawn)}
    for _ in range(counts[ENGLISH]):
        problem, solution = story.tell(generator)
        yield {"problem": problem, "solution": solution}
