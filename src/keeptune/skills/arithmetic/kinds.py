"""Registry of all arithmetic problem kinds, and the lookup of the kind of a text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from keeptune.skills.arithmetic.equation import Equation
from keeptune.skills.arithmetic.fraction import Simplification
from keeptune.skills.arithmetic.kind import Kind
from keeptune.skills.arithmetic.mean import Mean
from keeptune.skills.arithmetic.measures import Area, Mass
from keeptune.skills.arithmetic.money import Discount, Sales
from keeptune.skills.arithmetic.operations import Addition, Division, Multiplication, Subtraction
from keeptune.skills.arithmetic.powers import Function, Power, SquareRoot

ENGLISH = "english"
"""The kind of word problems in free text."""

KINDS: tuple[Kind[Any], ...] = (
    Addition(),
    Subtraction(),
    Multiplication(),
    Division(),
    Power(),
    SquareRoot(),
    Equation(),
    Mean(),
    Function(),
    Area(),
    Mass(),
    Discount(),
    Sales(),
    Simplification(),
)

_BY_FIRST_CHARACTER: dict[str, tuple[Kind[Any], ...]] = {
    first: tuple(kind for kind in KINDS if kind.problem_pattern.pattern[0] == first)
    for first in {kind.problem_pattern.pattern[0] for kind in KINDS}
}


@lru_cache(maxsize=1)
def find_kind(text: str) -> tuple[Kind[Any], Any] | None:
    """Return the kind of a problem text and the parsed problem, or None; no text matches two kinds.

    This runs for each of 810,000 corpus rows, so it tries only the kinds with the same first character. The cache
    holds the last problem, because callers parse a problem and then verify its solution.
    """
    for kind in _BY_FIRST_CHARACTER.get(text[:1], ()):
        problem = kind.parse(text) if kind.required_text in text else None
        if problem is not None:
            return kind, problem
    return None
