"""Generator of a corpus like the contest's train.json, for trials and load tests without the real file.

The generated corpus has the same mix of kinds, ranges, formats and order. As in the original, duplicates result from
sampling small spaces often (45 fractions, 100 masses, 40,200 equations). A corpus of the original's size also has as
many distinct problems of each kind as the original.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keeptune.errors import DataError
from keeptune.skills.arithmetic.kind import Kind
from keeptune.skills.arithmetic.kinds import ENGLISH, KINDS
from keeptune.skills.arithmetic.word_problems import generate_word_problem

IsExcluded = Callable[[str, str], bool]
"""Whether a problem, given with its solution, must not be in the corpus."""

MAX_DRAWS = 100_000
"""Limit of samples per problem. A kind with few problems needs many samples to find the last allowed one."""

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
"""Rows per kind in the original, duplicates included: 800,000 Chinese and 9,993 English rows.

The published counts are those without duplicates. The four operations have none. The other counts are chosen so that
random sampling yields the published ones.
"""

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
"""Problems per kind in the original without duplicates: the mix to evaluate on, where each problem counts once."""

ORIGINAL_CORPUS_ROWS, UNIQUE_CORPUS_ROWS = sum(ORIGINAL_ROWS.values()), 2_000
"""Default sizes: the size of the original, and a size that is sufficient for evaluation."""


def allocate_rows(rows: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Distribute a number of rows over kinds in proportion to their shares, by the largest remainder method."""
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
    """Yield rows {"problem", "solution"}: the Chinese kinds in random order, then the English ones, as in the original.

    The same seed gives the same rows. An excluded problem is replaced by another one of its kind.

    Args:
        rows: The number of rows.
        generator_seed: The seed of the random generator.
        refused: Returns whether a problem is excluded.
        any_length: Share of the problems whose numbers have all lengths; the original has few short numbers.
        close_calls: Share of the problems that a late digit decides.

    Raises:
        DataError: If nearly all problems of a kind are excluded.
    """
    generator = random.Random(generator_seed)
    counts = allocate_rows(rows, ORIGINAL_ROWS)
    kinds = [kind for kind in KINDS for _ in range(counts[kind.name])]
    generator.shuffle(kinds)
    is_original = counts == ORIGINAL_ROWS and not any_length + close_calls
    duplicates = _Duplicates(generator_seed) if is_original else None
    for kind in [*kinds, *[None] * counts[ENGLISH]]:
        row = _sample_row(kind, generator, refused, any_length, close_calls)
        problem, solution = duplicates.corrected(kind, row, refused) if duplicates else row
        yield {"problem": problem, "solution": solution}


def generate_unique_corpus(
    rows: int, generator_seed: int, refused: IsExcluded | None = None
) -> Iterator[dict[str, str]]:
    """Yield rows of distinct problems in random order, in the mix of `UNIQUE_ROWS`, for evaluation.

    Raises:
        DataError: If a kind has too few problems that are not excluded.
    """
    generator = random.Random(generator_seed)
    counts = allocate_rows(rows, UNIQUE_ROWS)
    kinds = [name for name in UNIQUE_ROWS for _ in range(counts[name])]
    generator.shuffle(kinds)
    seen: set[str] = set()

    def is_excluded(problem: str, solution: str) -> bool:
        return problem in seen or (refused is not None and refused(problem, solution))

    by_name = {kind.name: kind for kind in KINDS}
    for name in kinds:
        problem, solution = _sample_row(by_name.get(name), generator, is_excluded)
        seen.add(problem)
        yield {"problem": problem, "solution": solution}


class _Duplicates:
    """Replaces the few rows without which a corpus of the original's size would not have `UNIQUE_ROWS`.

    It has a separate random generator, so the other rows stay as sampled.
    """

    def __init__(self, generator_seed: int) -> None:
        self.generator = random.Random(f"{generator_seed}/duplicates")
        self.rows_left, self.new_left = dict(ORIGINAL_ROWS), dict(UNIQUE_ROWS)
        self.seen: set[str] = set()

    def corrected(self, kind: Kind[Any] | None, row: tuple[str, str], refused: IsExcluded | None) -> tuple[str, str]:
        """The row itself, or another one: its kind may need new problems only from here on, or have no more of them."""
        name = kind.name if kind else ENGLISH
        must_be_new, must_repeat = self.new_left[name] == self.rows_left[name], self.new_left[name] == 0

        def is_unfit(problem: str, solution: str) -> bool:
            is_new = problem not in self.seen
            return (must_repeat if is_new else must_be_new) or (refused is not None and refused(problem, solution))

        if is_unfit(*row):
            row = _sample_row(kind, self.generator, is_unfit)
        self.rows_left[name] -= 1
        self.new_left[name] -= row[0] not in self.seen
        self.seen.add(row[0])
        return row


def _sample_row(
    kind: Kind[Any] | None,
    generator: random.Random,
    refused: IsExcluded | None,
    any_length: float = 0.0,
    close_calls: float = 0.0,
) -> tuple[str, str]:
    """Sample a problem that is not excluded, with its solution; None stands for the English kind."""
    for _ in range(MAX_DRAWS):
        if kind is None:
            problem, solution = generate_word_problem(generator)
        else:
            sampled = _sample_problem(kind, generator, any_length, close_calls)
            problem, solution = kind.render_problem(sampled), kind.render_raw(sampled)
        if refused is None or not refused(problem, solution):
            return problem, solution
    raise DataError(
        f"data.synth: no further problem of kind {kind.name if kind else ENGLISH!r} in {MAX_DRAWS:,} samples; all were "
        "duplicates or in the excluded files; generate fewer rows, or exclude fewer problems of this kind"
    )


def _sample_problem(kind: Kind[Any], generator: random.Random, any_length: float, close_calls: float) -> Any:
    """Sample a problem of a kind with one of its three methods."""
    if not any_length + close_calls:
        return kind.sample(generator)
    share = generator.random()
    if share < any_length:
        return kind.sample_any_length(generator)
    return kind.sample_near_tie(generator) if share < any_length + close_calls else kind.sample(generator)
