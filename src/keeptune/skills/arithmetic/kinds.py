"""All kinds of arithmetic problem, and which of them a text belongs to."""

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
def find(text: str) -> tuple[Kind[Any], Any] | None:
    """The kind that `text` is a problem of, and the problem; None if it is of none. No text is of two kinds.

    A corpus of 810,000 rows goes through here, so only the kinds that open with the same character are tried, and
    the last problem is remembered: what is read is judged next.
    """
    for kind in _BY_FIRST_CHARACTER.get(text[:1], ()):
        problem = kind.parse(text) if kind.landmark in text else None
        if problem is not None:
            return kind, problem
    return None
