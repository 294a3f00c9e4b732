"""Whether a solution in sentences holds, judged without knowing how it was written.

Every digit must stand in a statement that is true: `=` between equal numbers only, and `≈` only between the exact
answer and its value rounded as declared. A statement about other numbers can be true as well, so each number of the
problem must be there too.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.skills.arithmetic.expression import TWO_NUMBERS, evaluate
from keeptune.skills.rounding import is_rounded
from keeptune.skills.rounding_policy import is_exactly_rounded

ROOT_ERROR = Fraction(1, 10**60)
"""A square root is cut off after at least so many decimals."""

_WORDS = re.compile(r"[\n，。：\u4e00-\u9fff]+")
_RELATION = re.compile(r"([=≈])")
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_UNKNOWN = re.compile(r"([0-9])?[xy]")
_ROOT = re.compile(r"√([0-9]+\.[0-9]+)")
_POWER = re.compile(r"(?:\((-[0-9.]+)\)|([0-9.]+))\^([0-9]{1,3})")


def find_error(solution: str, problem: str, truth: Fraction, rounding: Rounding) -> str | None:
    """The first statement that does not hold, a number that is missing, or why the final answer is wrong; or None."""
    body, _, last = solution.rpartition("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"the last line {last!r} is not `{ANSWER_MARKER} answer`"
    for clause in _WORDS.split(body):
        try:
            holds = not _DIGIT.search(clause) or _holds(clause, truth, rounding)
        except (ValueError, ZeroDivisionError) as error:
            return f"{clause.strip()!r} is no statement about numbers ({error})"
        if not holds:
            return f"{clause.strip()!r} does not hold"
    # What the last statement arrives at is the answer, though it may look like a number of the problem.
    before_answer = body[: max(body.rfind("="), body.rfind("≈"))]
    missing = Counter(_NUMBER.findall(problem)) - Counter(_NUMBER.findall(before_answer))
    if missing:
        return f"the numbers {', '.join(missing)} of the problem are not in it"
    return None if is_exactly_rounded(last, truth, rounding) else f"the answer {last!r} is not {truth} as declared"


def _holds(clause: str, truth: Fraction, rounding: Rounding) -> bool:
    """Whether all relations between neighbours are true. errors: ValueError, ZeroDivisionError when it has none."""
    parts = [part.strip() for part in _RELATION.split(clause)]
    # Words may stand before the first relation, as in `面积 = 87 * 4 = 348`.
    first, *others = parts if parts[0] else parts[2:]
    if not others:
        raise ValueError("it states nothing")
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
    """The value of an expression that may also hold powers, roots, and x or y for the answer."""
    if TWO_NUMBERS.search(side):
        raise ValueError("two numbers stand side by side")

    def root(match: re.Match[str]) -> str:
        if not truth**2 <= Fraction(match[1]) < (truth + ROOT_ERROR) ** 2:
            raise ValueError(f"{match[0]} is not the answer")
        return f"({truth})"

    side = _ROOT.sub(root, side)
    side = _POWER.sub(lambda match: f"({Fraction(match[1] or match[2]) ** int(match[3])})", side)
    side = _UNKNOWN.sub(lambda match: f"{match[1]}*({truth})" if match[1] else f"({truth})", side)
    return evaluate(side.replace(" ", ""))
