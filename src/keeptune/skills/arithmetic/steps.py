"""Search for false equations in stored solutions.

A worked solution can reach the right answer through a wrong step. For example, 13 % of one team's sales rows contain
`= 50 * 1.9 = 54.5`. A model trained on them learns the wrong step.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from keeptune.grading.chinese import COMMON_HAN
from keeptune.grading.number import headline_tolerance
from keeptune.skills.arithmetic.expression import TWO_NUMBERS, evaluate

_CONTINUED = re.compile(r"\n[ \t]*(?=[=≈])")
_BETWEEN_CLAUSES = re.compile(rf"[\n，。；：、！？{COMMON_HAN}]+|[,;:] ")
_EQUALS = re.compile(r"[=≈]")

# The length limit also limits the nesting of brackets. No side of a real step is longer.
_EXPRESSION = re.compile(r"[-+*/×÷(). 0-9]{1,120}")
_DECIMAL = re.compile(r"-?[0-9]+\.([0-9]{1,20})")
_PLAIN = str.maketrans("×÷", "*/")


def find_false_step(solution: str) -> str | None:
    """Return the first equation of a text that is false under the headline tolerance, or None.

    An equation is evaluated only if both sides consist of numbers, + - * / and brackets. A line that begins with `=`
    continues the line before it. After `≈`, a decimal may be rounded to its last place: `100/3 ≈ 33.3` holds.
    """
    for clause in _BETWEEN_CLAUSES.split(_CONTINUED.sub(" ", solution)):
        sides = [side.strip() for side in _EQUALS.split(clause)]
        if len(sides) == 1:
            continue
        signs = _EQUALS.findall(clause)
        values = [evaluate_or_none(side) for side in sides]
        pairs = pairwise(zip(sides, values, strict=True))
        for sign, ((left, left_value), (right, right_value)) in zip(signs, pairs, strict=True):
            if left_value is None or right_value is None:
                continue
            tolerance = headline_tolerance(left_value)
            if sign == "≈":
                tolerance = max(tolerance, _half_last_place(right))
            if abs(left_value - right_value) > tolerance:
                return f"{left} = {right}"
    return None


def _half_last_place(text: str) -> Fraction:
    """Return half a unit in the last place of a decimal, and 0 for all other texts."""
    match = _DECIMAL.fullmatch(text)
    return Fraction(1, 2 * 10 ** len(match[1])) if match else Fraction(0)


def evaluate_or_none(text: str) -> Fraction | None:
    """Return the exact value of an expression with + - * / and brackets, or None if the text is anything else."""
    if _EXPRESSION.fullmatch(text) is None or TWO_NUMBERS.search(text):
        return None
    try:
        return evaluate(text.replace(" ", "").translate(_PLAIN))
    except (ValueError, ZeroDivisionError):
        return None
