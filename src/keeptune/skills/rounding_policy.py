"""Whether an answer is right by the rounding that its recipe declares.

A recipe may ask for fewer digits than the headline grader does; seed 001 of the contest taught one decimal. Such an
answer is judged against the exact value rounded by that same policy, for the grader would reject what is asked for.
"""

from __future__ import annotations

from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import Truth
from keeptune.grading.number import final_answer, grade, headline_tolerance, parse_number
from keeptune.skills.rounding import is_rounded, last_place


def is_right(solution: str, truth: Truth, rounding: Rounding) -> bool:
    """Whether a final answer is the truth rounded as declared; or is right by the headline grader, unless the rounding
    is coarser than that. A fraction is never rounded: it must be the truth in lowest terms."""
    if isinstance(truth, str):
        return grade(solution, truth).correct
    if is_as_declared(solution, truth, rounding):
        return True
    return "/" not in solution and not is_coarse(truth, rounding) and grade(solution, truth).correct


def is_as_declared(solution: str, truth: Fraction, rounding: Rounding) -> bool:
    """Whether a final answer is exactly the truth rounded as declared, or a fraction in lowest terms."""
    found = final_answer(solution)
    if found is None:
        return False
    answer, _ = found
    if "/" in answer:
        return answer == str(truth)
    value = parse_number(answer)
    return value is not None and is_rounded(value, truth, rounding)


def is_coarse(truth: Fraction, rounding: Rounding) -> bool:
    """Whether the rounding may take a number further from the truth than the headline grader allows."""
    return truth != 0 and Fraction(10) ** last_place(truth, rounding) / 2 > headline_tolerance(truth)
