"""What `keeptune score` evaluates a model on, and how the command line and the API describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keeptune.config import error_messages
from keeptune.config.data import ColumnsSection
from keeptune.errors import RecipeError
from keeptune.evaluation.suite.loader import Size
from keeptune.grading.base import Grader, GraderError
from keeptune.grading.registry import create_grader


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate a model on: a file of problems, reading questions, abilities of the retention suite.

    `limit` is the number of problems and of reading questions; 0: all. Records are written to the folder `out`.
    `grader` and `columns` replace those that the model was trained with.
    """

    skill: Path | None = None
    reading: str | None = None
    abilities: Sequence[str] = ()
    suite: Size = "standard"
    limit: int = 0
    out: Path | None = None
    grader: Grader | None = None
    columns: ColumnsSection | None = None


def parse_grader(setting: str | Mapping[str, Any]) -> Grader:
    """The grader that the command line or the API names; its files are relative to the current folder.

    Raises:
        RecipeError: it is unknown, or an option is wrong.
    """
    try:
        return create_grader(setting).with_absolute_paths(lambda name: str(Path(name).absolute()))
    except GraderError as error:
        raise RecipeError(f"--grader: {error}") from None


def parse_columns(setting: Mapping[str, str]) -> ColumnsSection:
    """The columns that the command line or the API names.

    Raises:
        RecipeError: a key is unknown, or a value is no text.
    """
    try:
        return ColumnsSection.model_validate(setting)
    except ValidationError as error:
        raise RecipeError(f"--columns: {'; '.join(error_messages.messages(error, ColumnsSection))}") from None
