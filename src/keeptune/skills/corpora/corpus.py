"""A generated corpus of an example skill: its rows by split and seed, and the recipe settings that read them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keeptune.config.data import DataSection
from keeptune.errors import DataError
from keeptune.skills.base import Skill, UnusableRowError
from keeptune.skills.corpora.phrases import SplitName
from keeptune.skills.registry import skill_for_section

Row = dict[str, str]
"""A generated row: `problem`, `solution`, and `kind` if the skill takes kinds from a column."""

MAX_DRAWS = 10_000
"""Limit of samples per row. A corpus has far more distinct rows than anyone trains on, unless they are excluded."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """An example skill with generated rows.

    `data` has the keys of the recipe's section `data` that describe the skill: `skill`, `grader`, `columns`, `kinds`.
    """

    name: str
    data: Mapping[str, Any]
    sample: Callable[[random.Random, SplitName], Row]

    @property
    def skill(self) -> Skill:
        """The skill that reads the rows."""
        return skill_for_section(DataSection(files=("any",), **self.data))

    def generate(
        self,
        rows: int,
        seed: int,
        split: SplitName = "train",
        is_excluded: Callable[[str, str], bool] | None = None,
    ) -> Iterator[Row]:
        """Yield rows with distinct problems. The grader accepts each of them.

        Args:
            rows: The number of rows.
            seed: The same seed gives the same rows.
            split: `test` has patterns, names and values that `train` does not have.
            is_excluded: Returns whether a problem, given with its solution, is excluded.

        Raises:
            DataError: There are not enough problems that are not excluded.
        """
        generator = random.Random(f"{self.name} {split} {seed}")
        skill, seen = self.skill, set[str]()
        for _ in range(rows):
            row = self._sample_new(generator, split, skill, seen, is_excluded)
            seen.add(row["problem"])
            yield row

    def _sample_new(
        self,
        generator: random.Random,
        split: SplitName,
        skill: Skill,
        seen: set[str],
        is_excluded: Callable[[str, str], bool] | None,
    ) -> Row:
        for _ in range(MAX_DRAWS):
            row = self.sample(generator, split)
            problem, solution = row["problem"], row["solution"]
            is_known = problem in seen or (is_excluded is not None and is_excluded(problem, solution))
            if not is_known and _is_usable(skill, row):
                return row
        raise DataError(
            f"--preset {self.name}: no further problem in {MAX_DRAWS:,} samples; all were duplicates or in the "
            "excluded files; generate fewer rows, or exclude fewer problems"
        )


def _is_usable(skill: Skill, row: Row) -> bool:
    """Whether the grader accepts a row. It rejects a few queries that return no row."""
    try:
        return skill.parse(row["problem"], row["solution"], row.get("kind")) is not None
    except UnusableRowError:
        return False
