"""Grader `function`: a Python function of the user, which runs only if the command line allows it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from keeptune.errors import RecipeError
from keeptune.files import read_regular_bytes
from keeptune.grading.base import Grade, Grader

ALLOW_CODE = "KEEPTUNE_ALLOW_CODE"
"""Environment variable that `--allow-code` sets, so that worker processes inherit the permission."""

_PLACE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def allow_code() -> None:
    """Allow this process and its children to run the Python files that a recipe names."""
    os.environ[ALLOW_CODE] = "1"


def require_code_allowed(what: str) -> None:
    """Raises RecipeError unless the command line allows code that a recipe names."""
    if os.environ.get(ALLOW_CODE) != "1":
        raise RecipeError(f"{what} is code that runs on this machine; read it, then run `keeptune --allow-code …`")


class UserFunction(Grader):
    """The score that a function `(output: str, truth: str) -> float` returns, from 0 to 1.

    The function must be deterministic, because `verify` calls it again.
    """

    name: ClassVar[str] = "function"
    is_binary: ClassVar[bool] = False

    file: str = Field(description="`FILE.py:FUNCTION`, relative to the recipe; runs only with `keeptune --allow-code`")

    @field_validator("file")
    @classmethod
    def _check_file(cls, file: str) -> str:
        if _PLACE.fullmatch(file) is None:
            raise ValueError(f"must be FILE.py:FUNCTION, such as my_grader.py:score (got {file})")
        return file

    def with_absolute_paths(self, resolve: Callable[[str], str]) -> UserFunction:
        path, _, function = self.file.rpartition(":")
        return self.model_copy(update={"file": f"{resolve(path)}:{function}"})

    def check_available(self) -> None:
        require_code_allowed(self.file)
        _load(self.file)

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        self.check_available()
        try:
            score = _load(self.file)(answer, truth)
        except Exception as error:
            raise RecipeError(f"{self.file}: the function fails for {answer[:80]!r} ({error!r})") from error
        if not isinstance(score, (int, float)) or not isfinite(score) or not 0 <= score <= 1:
            raise RecipeError(f"{self.file}: the function must return a number from 0 to 1 (got {score!r})")
        return Grade(float(score), answer)


@cache
def _load(place: str) -> Callable[[str, str], Any]:
    """Return the function that a place names.

    Raises:
        RecipeError: the file cannot be read or run, or has no such function.
    """
    path, _, name = place.rpartition(":")
    namespace: dict[str, Any] = {"__name__": Path(path).stem, "__file__": path}
    try:
        exec(compile(read_regular_bytes(Path(path)), path, "exec"), namespace)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); check grader.file") from None
    except Exception as error:
        raise RecipeError(f"{path}: cannot be run ({error!r})") from error
    function = namespace.get(name)
    if not callable(function):
        raise RecipeError(f"{path}: has no function {name}; check grader.file")
    return function  # type: ignore[no-any-return]
