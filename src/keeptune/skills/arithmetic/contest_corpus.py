"""A whole corpus with the shape of the contest's train.json, for trials and load tests where the real one is absent.

It has the real one's mix of kinds, ranges, formats and order. Duplicates are not planted: as in the original they
come from drawing often out of a small space (45 fractions, 100 masses, 40,200 equations).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keeptune.errors import DataError
from keeptune.skills.arithmetic import word_problems as story
from keeptune.skills.arithmetic.kind import Kind
from keeptune.skills.arithmetic.kinds import ENGLISH, KINDS

IsExcluded = Callable[[str, str], bool]
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

UNIQUE_ROWS = {
    "add": 90_113,
    "sub": 89_366,
    "mul": 89_902,
    "div": 89_966,
    "power": 39_207,
    "sqrt": 39_227,
    "equation": 40_080,
    "mean": 19_709,
    "function": 20_028,
    "area": 8_665,
    "mass": 100,
    "discount": 6_275,
    "sales": 6_266,
    "fraction": 45,
    ENGLISH: 9_993,
}

ORIGINAL_CORPUS_ROWS, UNIQUE_CORPUS_ROWS = sum(ORIGINAL_ROWS.values()), 2_000
"""How many are written unless it is said: as many as the original has, and enough to score on."""
"""Problems of each kind in the original once duplicates are dropped: the mix that a score should be made on, for what
was asked six times counts once."""


def mix(rows: int, shares: Mapping[str, int]) -> dict[str, int]:
    """How many of so many rows are of each kind: these shares, rounded by largest remainder."""
    total = sum(shares.values())
    counts = {kind: rows * share // total for kind, share in shares.items()}
    missing = rows - sum(counts.values())
    by_remainder = sorted(shares, key=lambda kind: rows * shares[kind] % total, reverse=True)
    for kind in by_remainder[:missing]:
        counts[kind] += 1
    return counts


def generate_corpus(
    rows: int,
    generator_seed: int,
    refused: IsExcluded | None = None,
    any_length: float = 0.0,
    close_calls: float = 0.0,
) -> Iterator[dict[str, str]]:
    """Rows {"problem", "solution"}: first the Chinese kinds in random order, then the English ones, as in the
    original. The same seed gives the same rows. In place of a refused problem another of its kind is drawn.

    A share `any_length` of the problems has numbers of every length, of which the original's have few that are short;
    in a share `close_calls` a late digit decides.

    errors: DataError when nearly all problems of a kind are refused.
    """
    generator = random.Random(generator_seed)
    counts = mix(rows, ORIGINAL_ROWS)
    kinds = [kind for kind in KINDS for _ in range(counts[kind.name])]
    generator.shuffle(kinds)
    for kind in [*kinds, *[None] * counts[ENGLISH]]:
        problem, solution = _drawn(kind, generator, refused, any_length, close_calls)
        yield {"problem": problem, "solution": solution}


def generate_unique_corpus(
    rows: int, generator_seed: int, refused: IsExcluded | None = None
) -> Iterator[dict[str, str]]:
    """Rows of different problems in random order, in the mix of the original's unique ones: what to score on.

    errors: DataError when a kind has too few problems that are not refused.
    """
    generator = random.Random(generator_seed)
    counts = mix(rows, UNIQUE_ROWS)
    kinds = [name for name in UNIQUE_ROWS for _ in range(counts[name])]
    generator.shuffle(kinds)
    seen: set[str] = set()

    def unwanted(problem: str, solution: str) -> bool:
        return problem in seen or (refused is not None and refused(problem, solution))

    by_name = {kind.name: kind for kind in KINDS}
    for name in kinds:
        problem, solution = _drawn(by_name.get(name), generator, unwanted)
        seen.add(problem)
        yield {"problem": problem, "solution": solution}


def _drawn(
    kind: Kind[Any] | None,
    generator: random.Random,
    refused: IsExcluded | None,
    any_length: float = 0.0,
    close_calls: float = 0.0,
) -> tuple[str, str]:
    """A problem that is not refused, and its solution; English where there is no kind."""
    for _ in range(MOST_DRAWS):
        if kind is None:
            problem, solution = story.tell(generator)
        else:
            drawn = _problem(kind, generator, any_length, close_calls)
            problem, solution = kind.render_problem(drawn), kind.render_raw(drawn)
        if refused is None or not refused(problem, solution):
            return problem, solution
    raise DataError(
        f"no problem of the kind {kind.name if kind else ENGLISH} is left: all of {MOST_DRAWS:,} that were drawn are "
        "written already, or they or their twins are in the excluded files; ask for fewer rows, or take some of that "
        "kind out of those files"
    )


def _problem(kind: Kind[Any], generator: random.Random, any_length: float, close_calls: float) -> Any:
    """A problem of that kind, from one of the three draws."""
    if not any_length + close_calls:
        return kind.sample(generator)
    share = generator.random()
    if share < any_length:
        return kind.sample_any_length(generator)
    return kind.sample_near_tie(generator) if share < any_length + close_calls else kind.sample(generator)
