"""Arithmetic skill: the 14 Chinese kinds of the contest, and English word problems with a boxed answer."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from keeptune.config.solution_format import Rounding, Style
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.grading.base import Grader
from keeptune.grading.chinese import CHINESE_TEXT
from keeptune.grading.number import grade
from keeptune.grading.stated_answer import format_answer_line, parse_stated_truth
from keeptune.skills.arithmetic import check, rule_check
from keeptune.skills.arithmetic.digits import check as digits_check
from keeptune.skills.arithmetic.kind import DigitKind, Kind
from keeptune.skills.arithmetic.kinds import ENGLISH, KINDS, find_kind
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.arithmetic.variants import standard_text
from keeptune.skills.arithmetic.word_problems import generate_word_problem
from keeptune.skills.base import Question
from keeptune.skills.rejection import describe_unreadable_answer
from keeptune.skills.rounding import format_rounded
from keeptune.skills.stored_solution import add_answer_line

FLOAT_NOISE = Fraction(1, 10**12)
"""Largest relative error of a stored answer that is a float; floats have 16 digits."""

LARGEST_TRUTH_BITS = 1_300
"""Largest size of the numerator and the denominator of an answer: 391 digits; the data set has up to 303.

The grader parses no larger numbers, and a hostile row could have an answer with ten thousand digits.
"""

MAX_QUOTE_CHARACTERS = 60
"""Limit of a quoted answer in a message; a stored answer may be as long as its row."""

_CHINESE = re.compile(f"[{CHINESE_TEXT}]")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

_COMMUTATIVE = frozenset({"add", "mul", "area", "mass", "mean"})


class Arithmetic:
    """Parses, solves, verifies and generates arithmetic problems."""

    name = "arithmetic"
    kinds = (*(kind.name for kind in KINDS), ENGLISH)
    free_text_kinds = frozenset({ENGLISH})
    grader: Grader | None = None

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:  # noqa: ARG002
        """Return the question, or None if the text is of no known kind or no grader can read its answer.

        A text without Chinese characters is an English problem if its solution has a boxed answer or an answer after
        `####`. Whitespace around the problem is ignored. The text of a question is that of the data set, also where
        the problem has another spelling (variants.py).
        """
        problem = problem.strip()
        match = find_kind(problem)
        if match is None and _CHINESE.search(problem):
            problem = standard_text(problem) or problem
            match = find_kind(problem)
        if match is None:
            return _parse_english(problem, solution)
        kind, parsed = match
        truth = kind.value(parsed)
        top, bottom = truth.as_integer_ratio()
        if top.bit_length() > LARGEST_TRUTH_BITS or bottom.bit_length() > LARGEST_TRUTH_BITS:
            return None
        return Question(kind.name, problem, truth)

    def explain_rejection(self, problem: str, solution: str, label: str | None = None) -> str:  # noqa: ARG002
        """Return why `parse` returns None: the problem is of no kind, or no grader can read its answer."""
        if not _CHINESE.search(problem) and parse_stated_truth(solution) is not None:
            return describe_unreadable_answer(solution)
        return (
            "no known kind of problem: it is none of the arithmetic kinds, nor English with an answer in \\boxed{} or "
            "after ####; for rows of other topics, set data.skill: text"
        )

    def find_error(self, question: Question, solution: str) -> str | None:
        """Return why a stored solution is wrong, or None.

        A solution in the format of the data set must repeat the numbers of the problem. Its answer must be exact, or
        correctly rounded within the headline tolerance. A solution in any other format must have an answer within
        that tolerance, and every equation that can be parsed must hold. An English solution is the source of the truth
        and always right.
        """
        if question.kind == ENGLISH:
            return None
        kind, parsed = _reparse(question)
        solution, expected = solution.strip(), kind.render_raw(parsed)
        if solution == expected:
            return None
        match, expected_match = kind.solution_pattern.fullmatch(solution), kind.solution_pattern.fullmatch(expected)
        if match is None or expected_match is None:
            return _find_free_text_error(question, solution)
        prefix, expected_prefix = solution[: match.start(1)], expected[: expected_match.start(1)]
        if prefix != expected_prefix:
            return f"another problem: the solution begins with {prefix!r}; expected {expected_prefix!r}"
        if _matches_truth(match[1], _number(question)):
            return None
        return f"wrong answer: {match[1]}; expected {expected_match[1]}"

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
        """Return the solution to train on. English problems and the style "raw" use the stored `solution`."""
        if question.kind == ENGLISH:
            return add_answer_line(solution, style)
        kind, parsed = _reparse(question)
        if style == "raw":
            return solution.strip() if self.find_error(question, solution) is None else kind.render_raw(parsed)
        if style == "answer":
            return f"{ANSWER_MARKER} {kind.render_answer(parsed, rounding)}"
        if style == "digits" and (digit_kind := _as_digit_kind(kind, parsed)):
            return digit_kind.render_digits(parsed)
        return kind.render_rule(parsed, rounding) if style == "rule" else kind.render_longhand(parsed, rounding)

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:
        """Return why a rendered solution is wrong, or None. The check does not use the rendering code."""
        if question.kind == ENGLISH:
            is_correct = grade(solution, question.truth).correct
            return None if is_correct else "the final answer differs from the stored solution"
        if style == "raw":
            return self.find_error(question, solution)
        if style == "rule":
            return rule_check.find_error(solution, question.text, _number(question), rounding)
        if style == "digits" and _as_digit_kind(*_reparse(question)):
            return digits_check.find_error(solution, question.text, _number(question))
        return check.find_error(solution, question.truth, rounding)

    def canonical_form(self, question: Question) -> str:
        """Return a text that is equal for problems that differ only in number order, such as a + b and b + a."""
        if question.kind not in _COMMUTATIVE:
            return question.text
        return " ".join([question.kind, *sorted(_NUMBER.findall(question.text))])

    def generate(self, kind: str, generator: random.Random) -> tuple[str, str]:
        """Return a random (problem, raw solution) of a kind, in the ranges and the format of the data set."""
        if kind == ENGLISH:
            return generate_word_problem(generator)
        arithmetic_kind = next(other for other in KINDS if other.name == kind)
        problem = arithmetic_kind.sample(generator)
        return arithmetic_kind.render_problem(problem), arithmetic_kind.render_raw(problem)


def _as_digit_kind(kind: Kind[Any], problem: Any) -> DigitKind[Any] | None:
    """Return the kind if its digit procedure supports the problem; other problems are rendered as longhand."""
    return kind if isinstance(kind, DigitKind) and kind.supports_digits(problem) else None


def _reparse(question: Question) -> tuple[Kind[Any], Any]:
    """Return the kind and the parsed problem of a question from `Arithmetic.parse`."""
    match = find_kind(question.text)
    assert match is not None
    return match


def _number(question: Question) -> Fraction:
    """Return the truth of a Chinese problem, which is always a number."""
    assert isinstance(question.truth, Fraction)
    return question.truth


def _matches_truth(stated: str, truth: Fraction) -> bool:
    """Whether an answer in the format of the data set is the truth, up to float error or correct rounding."""
    if "/" in stated:
        return stated == str(truth)
    error = abs(Fraction(stated) - truth)
    if error <= abs(truth) * FLOAT_NOISE:
        return True
    last_place = Decimal(stated).as_tuple().exponent
    assert isinstance(last_place, int)
    return error <= Fraction(10) ** last_place / 2 and grade(f"{ANSWER_MARKER} {stated}", truth).correct


def _find_free_text_error(question: Question, solution: str) -> str | None:
    graded = grade(solution, question.truth, question.kind)
    if graded.answer is None:
        return "no answer: the solution contains no number"
    if not graded.correct:
        answer, expected = graded.answer[:MAX_QUOTE_CHARACTERS], format_rounded(_number(question), Rounding(4))
        return f"wrong answer: {answer}; expected {expected}"
    step = find_false_step(solution)
    return None if step is None else f"wrong step: {step}"


def _parse_english(problem: str, solution: str) -> Question | None:
    if _CHINESE.search(problem):
        return None
    truth = parse_stated_truth(solution)
    if truth is None:
        return None
    # A model cannot be evaluated on an answer that the grader cannot read.
    is_readable = grade(format_answer_line(solution), truth).correct
    return Question(ENGLISH, problem, truth) if is_readable else None
