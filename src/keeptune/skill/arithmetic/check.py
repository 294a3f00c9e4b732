"""Whether a written solution holds, step by step, judged without knowing how it was written.

The writer's procedures are not used here: every line is parsed as statements about numbers, and each is evaluated
exactly. A solution that reaches the right answer over a wrong step teaches the wrong step.
"""

from __future__ import annotations

import re
from fractions import Fraction

from keeptune.score.number import grade
from keeptune.skill.base import ANSWER_MARKER, Truth

_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:E[+-][0-9]+)?|[-+*/()]")
_REMAINDER = re.compile(r"([0-9]+)/([0-9]+)=([0-9]+)r([0-9]+)")
_CUT_OFF = re.compile(r"(.+)=(-?[0-9]+\.([0-9]+))\.\.\.")
_COLUMNS = re.compile(r"(?:[a-z][0-9]{2})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COLUMN_STEP = re.compile(r"([a-z])([0-9].*)")

ROUNDED = Fraction(5, 10**8)
"""How far a rounded step may be off, relatively: half a unit of the eighth digit."""


def fault(solution: str, truth: Truth) -> str | None:
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
    if not grade(last, truth).correct:
        return f"the answer {last!r} is not {truth}"
    return None


def _wrong(line: str, before: str) -> bool:
    if _COLUMNS.fullmatch(line):
        return _columns_differ(line, before)
    if match := _REMAINDER.fullmatch(line):
        dividend, divisor, quotient, remainder = map(int, match.groups())
        return not (dividend == divisor * quotient + remainder and 0 <= remainder < divisor)
    if match := _CUT_OFF.fullmatch(line):
        exact, written = evaluate(match[1]), Fraction(match[2])
        rest = abs(exact) - abs(written)
        return not (exact * written >= 0 and 0 < rest < Fraction(1, 10 ** len(match[3])))
    if "~=" in line:
        left, right = line.split("~=")
        exact = evaluate(left)
        return abs(exact - Fraction(right)) > abs(exact) * ROUNDED
    step = _COLUMN_STEP.fullmatch(line)
    sides = [evaluate(side) for side in (step[2] if step else line).split("=")]
    if len(sides) < 2:
        raise ValueError("it states nothing")
    return any(side != sides[0] for side in sides)


def _columns_differ(line: str, before: str) -> bool:
    """Whether a list of digits is not that of two numbers in the line before it."""
    stated = {int(number.replace(".", "")) for number in _NUMBER.findall(before)}
    return not {int("".join(line[1::3])), int("".join(line[2::3]))} <= stated


def evaluate(expression: str) -> Fraction:
    """The exact value of numbers with + - * / and brackets.

    errors: ValueError when it is anything else; ZeroDivisionError.
    """
    tokens = _TOKEN.findall(expression)
    if "".join(tokens) != expression or not tokens:
        raise ValueError(f"{expression!r} is not arithmetic")
    value, rest = _terms(tokens)
    if rest:
        raise ValueError(f"{expression!r}: {rest[0]!r} is left over")
    return value


def _terms(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _factors(tokens)
    while tokens and tokens[0] in "+-":
        operator, (term, tokens) = tokens[0], _factors(tokens[1:])
        value = value + term if operator == "+" else value - term
    return value, tokens


def _factors(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        operator, (factor, tokens) = tokens[0], _atom(tokens[1:])
        value = value * factor if operator == "*" else value / factor
    return value, tokens


def _atom(tokens: list[str]) -> tuple[Fraction, list[str]]:
    if not tokens:
        raise ValueError("it ends in the middle")
    if tokens[0] == "-":
        value, rest = _atom(tokens[1:])
        return -value, rest
    if tokens[0] == "(":
        value, rest = _terms(tokens[1:])
        if not rest or rest[0] != ")":
            raise ValueError("a bracket is not closed")
        return value, rest[1:]
    return Fraction(tokens[0]), tokens[1:]
