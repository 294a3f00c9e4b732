"""Verification of step-by-step solutions, independent of the code that rendered them.

Every line is parsed as statements about numbers, and each statement is evaluated exactly. The rendering procedures are
not used here. A solution that reaches the right answer through a wrong step would teach the wrong step.
"""

from __future__ import annotations

import re
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.skills.arithmetic.expression import Ratio, ratio, same
from keeptune.skills.rounding_policy import matches_rounding_policy

_REMAINDER = re.compile(r"([0-9]+)/([0-9]+)=([0-9]+)r([0-9]+)")
_TRUNCATED = re.compile(r"(.+)=(-?[0-9]+\.([0-9]+))\.\.\.")
_COLUMNS = re.compile(r"(?:[a-z][0-9]{2})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COLUMN_STEP = re.compile(r"[a-z]([0-9].*)")

ROUNDING_ERROR = Fraction(5, 10**8)
"""Largest relative error of a rounded step: half a unit of the eighth digit."""


def find_error(solution: str, truth: Truth, rounding: Rounding) -> str | None:
    """Return the first false line or why the final answer is wrong; None if the solution is right."""
    *steps, last = solution.split("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"last line {last!r}: expected `{ANSWER_MARKER} answer`"
    for before, line in zip(["", *steps], steps, strict=False):
        try:
            is_false = _is_false(line, before)
        except (ValueError, ZeroDivisionError) as error:
            return f"line {line!r}: not a statement about numbers ({error})"
        if is_false:
            return f"line {line!r}: the statement is false"
    return None if matches_rounding_policy(last, truth, rounding) else f"answer {last!r}: expected {truth}"


def _is_false(line: str, before: str) -> bool:
    if line.endswith("...") and (match := _TRUNCATED.fullmatch(line)):
        return not _is_truncated(ratio(match[1]), match[2], len(match[3]))
    if "~=" in line:
        left, right = line.split("~=")
        return not _is_rounded(ratio(left), Fraction(right))
    if line[:1].islower():
        if _COLUMNS.fullmatch(line):
            return _columns_differ(line, before)
        if step := _COLUMN_STEP.fullmatch(line):
            line = step[1]
    return is_false_statement(line)


def is_false_statement(line: str) -> bool:
    """Whether the sides of a statement differ: expressions joined by `=`, or a quotient with its remainder.

    Raises:
        ValueError: If the line is not a statement.
        ZeroDivisionError: If it divides by zero.
    """
    if match := _REMAINDER.fullmatch(line):
        dividend, divisor, quotient, remainder = map(int, match.groups())
        return not (dividend == divisor * quotient + remainder and 0 <= remainder < divisor)
    first, *others = map(ratio, line.split("="))
    if not others:
        raise ValueError("no relation")
    return not all(same(first, other) for other in others)


def _is_truncated(exact: Ratio, written: str, decimals: int) -> bool:
    """Whether `written` is `exact` truncated after `decimals` decimals, with a nonzero rest."""
    value, bottom = exact if exact[1] > 0 else (-exact[0], -exact[1])
    units, scale = int(written.replace(".", "")), 10**decimals
    rest = abs(value) * scale - abs(units) * bottom
    return value * units >= 0 and 0 < rest < bottom


def _is_rounded(exact: Ratio, written: Fraction) -> bool:
    """Whether `written` is `exact` rounded to eight digits."""
    value, bottom = exact
    difference = abs(value * written.denominator - written.numerator * bottom)
    return difference * ROUNDING_ERROR.denominator <= abs(value) * written.denominator * ROUNDING_ERROR.numerator


def _columns_differ(line: str, before: str) -> bool:
    """Whether the listed digits are not those of two numbers of the previous line."""
    numbers = {int(number.replace(".", "")) for number in _NUMBER.findall(before)}
    return not {int("".join(line[1::3])), int("".join(line[2::3]))} <= numbers
