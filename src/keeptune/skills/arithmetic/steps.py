"""Whether the steps that somebody wrote into a solution hold.

A worked solution can reach the right answer by a wrong way: 13 % of one team's sales rows read
`= 50 * 1.9 = 54.5`. A model that learns from them learns the wrong way.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from keeptune.skills.arithmetic.expression import TWO_NUMBERS, evaluate

_CONTINUED = re.compile(r"\n[ \t]*(?=[=≈])")
_BETWEEN_CLAUSES = re.compile(r"[\n，。；：、！？\u4e00-\u9fff]+|[,;:] ")
_EQUALS = re.compile(r"[=≈]")

# The length bounds how deep brackets can nest; no side of a real step is longer.
_EXPRESSION = re.compile(r"[-+*/×÷(). 0-9]{1,120}")
_PLAIN = str.maketrans("×÷", "*/")


def false_step(solution: str) -> str | None:
    """The first equation in a text that does not hold to two decimals or four digits, or None.

    Only what is surely arithmetic is judged: both sides must be nothing but numbers, + - * / and brackets. A line
    that opens with `=` goes on with the one before it.
    """
    for clause in _BETWEEN_CLAUSES.split(_CONTINUED.sub(" ", solution)):
        sides = [side.strip() for side in _EQUALS.split(clause)]
        if len(sides) == 1:
            continue
        values = [value_of(side) for side in sides]
        for (left, left_value), (right, right_value) in pairwise(zip(sides, values, strict=True)):
            if left_value is None or right_value is None:
                continue
            if abs(left_value - right_value) > max(Fraction(1, 200), abs(left_value) / 10_000):
                return f"{left} = {right}"
    return None


def value_of(text: str) -> Fraction | None:
    """The exact value of numbers joined by + - * / and brackets, or None where a text is anything else."""
    if _EXPRESSION.fullmatch(text) is None or TWO_NUMBERS.search(text):
        return None
    try:
        return evaluate(text.replace(" ", "").translate(_PLAIN))
    except (ValueError, ZeroDivisionError):
        return None
