"""Grader `math`: mathematical equality of formulas by math-verify. It needs the extra `graders`."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from functools import cache
from typing import Any, ClassVar

from pydantic import Field

from keeptune.errors import RecipeError
from keeptune.grading.base import Grade, Grader, GraderError, LocationName
from keeptune.grading.number import HALF_WIDTH
from keeptune.grading.stated_answer import normalize_answer

_ASCII = HALF_WIDTH | {ord("，"): ","}
"""Full-width forms, which the library does not read."""

_PLAIN_NAMES = (
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"(?<=[0-9A-Za-z)}])\s*\*(?!\*)\s*(?=[0-9A-Za-z\\(])"), r" \\cdot "),
)
"""Names of plain text as LaTeX."""

_TIMEOUT_SECONDS = 5
_MAXIMUM_CHARACTERS = 2_000


class Math(Grader):
    r"""Equality of formulas, sets, intervals and equations, such as `\frac{1}{2}` and `0.5` (Kydlíček et al. 2025).

    Answers whose normalized texts are equal are right, too; so words can be answers.
    """

    name: ClassVar[str] = "math"

    answer: LocationName = Field("boxed", description="as for the other graders")

    def check_available(self) -> None:
        _import_math_verify()

    def check_truth(self, truth: str, problem: str = "") -> None:
        if not normalize_answer(truth):
            raise GraderError(f"the answer has nothing to compare: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        if normalize_answer(answer) == normalize_answer(truth):
            return Grade(1.0, answer)
        if len(answer) > _MAXIMUM_CHARACTERS:
            return Grade(0.0, answer)
        return Grade(float(_are_equal(truth, answer)), answer)


def _are_equal(truth: str, answer: str) -> bool:
    library = _import_math_verify()
    # Timeouts use a signal, which only the main thread can receive.
    timeout = _TIMEOUT_SECONDS if threading.current_thread() is threading.main_thread() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, value = (library.parse(_as_latex(text), parsing_timeout=timeout) for text in (truth, answer))
        if not (expected and value):
            return False
        # The library compares an interval with an inequality in one order only.
        return any(library.verify(*pair, timeout_seconds=timeout) for pair in ((expected, value), (value, expected)))


def _as_latex(text: str) -> str:
    """Return the text within dollar signs, because math-verify reads LaTeX only in a math environment."""
    text = text.translate(_ASCII)
    for pattern, latex in _PLAIN_NAMES:
        text = pattern.sub(latex, text)
    return text if "$" in text else f"${text}$"


@cache
def _import_math_verify() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import math_verify
    except ImportError:
        raise RecipeError("the grader math needs the library math-verify: pip install 'keeptune[graders]'") from None
    # The library logs each formula that it cannot parse, with a traceback.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return math_verify
