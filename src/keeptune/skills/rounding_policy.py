"""Check of an answer against the rounding that its recipe declares.

A recipe may ask for fewer digits than the headline grader does. For example, one team of the contest trained answers
with one decimal. The headline grader rejects such answers, so they are compared with the exact value rounded the
declared way.
"""

from __future__ import annotations

from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import Truth
from keeptune.grading.number import find_final_answer, grade, headline_tolerance, parse_number
from keeptune.skills.rounding import is_rounded, last_place


def matches_rounding_policy(solution: str, truth: Truth, rounding: Rounding) -> bool:
    """Whether the final answer of a solution is right under the declared rounding.

    The answer must be the truth rounded as declared. The headline grader is accepted as well, unless the rounding is
    coarser than it. A fraction is never rounded: it must be the truth in lowest terms.
    """
    if isinstance(truth, str):
        return grade(solution, truth).correct
    if is_exactly_rounded(solution, truth, rounding):
        return True
    return "/" not in solution and not is_coarser_than_headline(truth, rounding) and grade(solution, truth).correct


def is_exactly_rounded(solution: str, truth: Fraction, rounding: Rounding) -> bool:
    """Whether the final answer of a solution is the truth rounded as declared, or a fraction in lowest terms."""
    final = find_final_answer(solution)
    if final is None:
        return False
    answer, _ = final
    if "/" in answer:
        return answer == str(truth)
    value = parse_number(answer)
    return value is not None and is_rounded(value, truth, rounding)


def is_coarser_than_headline(truth: Fraction, rounding: Rounding) -> bool:
    """Whether the rounding error can exceed the tolerance of the headline grader."""
    return truth != 0 and Fraction(10) ** last_place(truth, rounding) / 2 > headline_tolerance(truth)
