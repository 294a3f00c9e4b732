"""Figures of the skill's grader for the report: shares, counts, and the confusion matrix of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keeptune.report import text
from keeptune.run_files.result import Skill, SkillScore

CONFUSION = "confusion"
"""The figure with one row per true label and one column per answer."""

_MAXIMUM_LABELS = 30
"""Larger matrices stay in result.json."""


def figure_rows(skill: Skill) -> list[tuple[str, str, str]]:
    """Name, base and tuned of each figure. Shares are percentages, numbers of answers are counts."""
    base, tuned = (dict(_leaves("", score.figures)) for score in (skill.base, skill.tuned))
    names = [*tuned, *(name for name in base if name not in tuned)]
    return [(name, _shown(base.get(name)), _shown(tuned.get(name))) for name in names]


def confusion_matrix(score: SkillScore) -> tuple[list[str], list[tuple[str, list[str]]]] | None:
    """The columns, and each row with its counts; None if the grader has no matrix or it is too large."""
    matrix = score.figures.get(CONFUSION)
    if not matrix or len(matrix) > _MAXIMUM_LABELS:
        return None
    columns = list(dict.fromkeys(column for counts in matrix.values() for column in counts))
    columns = [*(label for label in matrix if label in columns), *(name for name in columns if name not in matrix)]
    return columns, [
        (label, [text.count(counts.get(column, 0)) for column in columns]) for label, counts in matrix.items()
    ]


def _leaves(path: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    for key, value in tree.items():
        name = f"{path}: {key}" if path else key.replace("_", " ")
        if isinstance(value, (int, float)):
            yield name, value
        elif isinstance(value, Mapping) and key != CONFUSION:
            yield from _leaves(name, value)


def _shown(value: int | float | None) -> str:
    if value is None:
        return text.NONE
    return text.percent(value) if isinstance(value, float) else text.count(value)
