"""Whether a written solution holds, step by step, judged without knowing how it was written.

The writer's procedures are not used here: every line is parsed as statements about numbers, and each is evaluated
exactly. A solution that reaches the right answer over a wrong step teaches the wrong step.
"""

from __future__ import annotations

import re
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.skills.arithmetic.expression import Ratio, ratio, same
from keeptune.skills.rounding_policy import matches_rounding_policy

_REMAINDER = re.compile(r"([0-9]+)/([0-9]+)=([0-9]+)r([0-9]+)")
_CUT_OFF = re.compile(r"(.+)=(-?[0-9]+\.([0-9]+))\.\.\.")
_COLUMNS = re.compile(r"(?:[a-z][0-9]{2})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COLUMN_STEP = re.compile(r"[a-z]([0-9].*)")

ROUNDED = Fraction(5, 10**8)
"""How far a rounded step may be off, relatively: half a unit of the eighth digit."""


def find_error(solution: str, truth: Truth, rounding: Rounding) -> str | None:
    """The first line that does not hold, or why the final answer is wrong; None when all is right."""
    *steps, last = solution.split("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"the last line {last!r} is not `{ANSWER_MARKER} answer`"
    for before, line in zip(["", *steps], steps, strict=False):
        try:
            wrong = _wrong(line, before)
        except (ValueError, ZeroDivisionError) as error:
            return f"the line {line!r} is no statement about numbers ({error})"
        if wrong:
            return f"the line {line!r} does not hold"
    return None if matches_rounding_policy(last, truth, rounding) else f"the answer {last!r} is not {truth}"


def _wrong(line: str, before: str) -> bool:
    if line.endswith("...") and (match := _CUT_OFF.fullmatch(line)):
        return not _is_cut_off(ratio(match[1]), match[2], len(match[3]))
    if "~=" in line:
        left, right = line.split("~=")
        return not _is_nearly(ratio(left), Fraction(right))
    if line[:1].islower():
        if _COLUMNS.fullmatch(line):
            return _columns_differ(line, before)
        if step := _COLUMN_STEP.fullmatch(line):
            line = step[1]
    return wrong_statement(line)


def wrong_statement(line: str) -> bool:
    """Whether the sides of a statement differ: expressions joined by `=`, or a quotient with its remainder.

    errors: ValueError when it is no statement; ZeroDivisionError.
    """
    if match := _REMAINDER.fullmatch(line):
        dividend, divisor, quotient, remainder = map(int, match.groups())
        return not (dividend == divisor * quotient + remainder and 0 <= remainder < divisor)
    first, *others = map(ratio, line.split("="))
    if not others:
        raise ValueError("it states nothing")
    return not all(same(first, other) for other in others)


def _is_cut_off(exact: Ratio, written: str, decimals: int) -> bool:
    """Whether a decimal is the number less the digits that follow it, which are not all zeros."""
    value, below = exact if exact[1] > 0 else (-exact[0], -exact[1])
    units, scale = int(written.replace(".", "")), 10**decimals
    rest = abs(value) * scale - abs(units) * below
    return value * units >= 0 and 0 < rest < below


def _is_nearly(exact: Ratio, written: Fraction) -> bool:
    """Whether a number is another one rounded to eight digits."""
    value, below = exact
    difference = abs(value * written.denominator - written.numerator * below)
    return difference * ROUNDED.denominator <= abs(value) * written.denominator * ROUNDED.numerator


def _columns_differ(line: str, before: str) -> bool:
    """Whether a list of digits is not that of two numbers in the line before it."""
    stated = {int(number.replace(".", "")) for number in _NUMBER.findall(before)}
    return not {int("".join(line[1::3])), int("".join(line[2::3]))} <= stated
