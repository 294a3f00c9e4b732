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
_PLAIN = str.maketrans("×÷", "*/")


def find_false_step(solution: str) -> str | None:
    """Return the first equation of a text that is false under the headline tolerance, or None.

    An equation is evaluated only if both sides consist of numbers, + - * / and brackets. A line that begins with `=`
    continues the line before it.
    """
    for clause in _BETWEEN_CLAUSES.split(_CONTINUED.sub(" ", solution)):
        sides = [side.strip() for side in _EQUALS.split(clause)]
        if len(sides) == 1:
            continue
        values = [evaluate_or_none(side) for side in sides]
        for (left, left_value), (right, right_value) in pairwise(zip(sides, values, strict=True)):
            if left_value is None or right_value is None:
                continue
            if abs(left_value - right_value) > headline_tolerance(left_value):
                return f"{left} = {right}"
    return None


def evaluate_or_none(text: str) -> Fraction | None:
    """Return the exact value of an expression with + - * / and brackets, or None if the text is anything else."""
    if _EXPRESSION.fullmatch(text) is None or TWO_NUMBERS.search(text):
        return None
    try:
        return evaluate(text.replace(" ", "").translate(_PLAIN))
    except (ValueError, ZeroDivisionError):
        return None
