"""Verification of solutions in sentences, independent of the code that rendered them.

Every digit must belong to a true statement. `=` joins equal numbers only, and `≈` joins only the exact answer and its
value rounded as declared. A true statement may still be about other numbers, so the solution must also contain each
number of the problem.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.grading.chinese import COMMON_HAN
from keeptune.skills.arithmetic.expression import TWO_NUMBERS, evaluate
from keeptune.skills.rounding import is_rounded
from keeptune.skills.rounding_policy import is_exactly_rounded

ROOT_ERROR = Fraction(1, 10**60)
"""Upper bound of the truncation error of a square root."""

_WORDS = re.compile(rf"[\n，。：{COMMON_HAN}]+")
_RELATION = re.compile(r"([=≈])")
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_UNKNOWN = re.compile(r"([0-9])?[xy]")
_ROOT = re.compile(r"√([0-9]+\.[0-9]+)")
_POWER = re.compile(r"(?:\((-[0-9.]+)\)|([0-9.]+))\^([0-9]{1,3})")


def find_error(solution: str, problem: str, truth: Fraction, rounding: Rounding) -> str | None:
    """Return the first false statement, the missing numbers, or why the answer is wrong; None if all is right."""
    body, _, last = solution.rpartition("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"last line {last!r}: expected `{ANSWER_MARKER} answer`"
    for clause in _WORDS.split(body):
        try:
            is_true = not _DIGIT.search(clause) or _is_true(clause, truth, rounding)
        except (ValueError, ZeroDivisionError) as error:
            return f"clause {clause.strip()!r}: not a statement about numbers ({error})"
        if not is_true:
            return f"clause {clause.strip()!r}: the statement is false"
    # The result of the last statement is the answer. It may look like a number of the problem, so it is left out.
    before_answer = body[: max(body.rfind("="), body.rfind("≈"))]
    missing = Counter(_NUMBER.findall(problem)) - Counter(_NUMBER.findall(before_answer))
    if missing:
        return f"numbers of the problem are missing: {', '.join(missing)}"
    return (
        None if is_exactly_rounded(last, truth, rounding) else f"answer {last!r}: expected {truth}, rounded as declared"
    )


def _is_true(clause: str, truth: Fraction, rounding: Rounding) -> bool:
    """Whether all relations between adjacent sides are true.

    Raises:
        ValueError: If the clause has no relation, or a side is not an expression.
        ZeroDivisionError: If a side divides by zero.
    """
    parts = [part.strip() for part in _RELATION.split(clause)]
    # Words may precede the first relation, as in `面积 = 87 * 4 = 348`.
    first, *others = parts if parts[0] else parts[2:]
    if not others:
        raise ValueError("no relation")
    left = _value(first, truth)
    for relation, side in zip(others[::2], others[1::2], strict=True):
        right = _value(side, truth)
        if relation == "=" and left != right:
            return False
        if relation == "≈" and not (left == truth != right and is_rounded(right, truth, rounding)):
            return False
        left = right
    return True


def _value(side: str, truth: Fraction) -> Fraction:
    """Return the value of an expression that may contain powers, roots, and x or y for the answer."""
    if TWO_NUMBERS.search(side):
        raise ValueError("no operator between two numbers")

    def root(match: re.Match[str]) -> str:
        if not truth**2 <= Fraction(match[1]) < (truth + ROOT_ERROR) ** 2:
            raise ValueError(f"{match[0]} is not the answer")
        return f"({truth})"

    side = _ROOT.sub(root, side)
    side = _POWER.sub(lambda match: f"({Fraction(match[1] or match[2]) ** int(match[3])})", side)
    side = _UNKNOWN.sub(lambda match: f"{match[1]}*({truth})" if match[1] else f"({truth})", side)
    return evaluate(side.replace(" ", ""))
