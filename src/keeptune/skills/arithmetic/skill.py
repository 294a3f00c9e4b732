"""The arithmetic skill: the contest's 14 Chinese kinds, and English word problems with a boxed answer."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from keeptune.config.solution_format import Rounding, Style
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.grading.number import grade
from keeptune.grading.stated_answer import add_answer_line, format_answer_line, parse_stated_truth
from keeptune.skills.arithmetic import check, rule_check
from keeptune.skills.arithmetic import word_problems as story
from keeptune.skills.arithmetic.digits import check as digits_check
from keeptune.skills.arithmetic.kind import DigitKind, Kind
from keeptune.skills.arithmetic.kinds import ENGLISH, KINDS, find_kind
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.base import Question
from keeptune.skills.rounding import format_rounded

FLOAT_NOISE = Fraction(1, 10**12)
"""How far, relative to it, a data set's answer may be from the exact one; its floats have 16 digits."""

LARGEST_TRUTH_BITS = 1_300
"""Numerator and denominator of an answer have at most this many bits (391 digits; the data set's have 303).

The grader reads no larger numbers, and a hostile row could ask for one with ten thousand digits."""

LONGEST_QUOTE = 60
"""In characters; a stored answer may be as long as its row."""

_CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

_COMMUTATIVE = frozenset({"add", "mul", "area", "mass", "mean"})


class Arithmetic:
    """Recognises, verifies, writes and invents arithmetic problems."""

    name = "arithmetic"
    kinds = (*(kind.name for kind in KINDS), ENGLISH)
    free_text_kinds = frozenset({ENGLISH})

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:  # noqa: ARG002
        """The question; None for a text of no known kind, or whose answer no grader could read.

        A text without any Chinese is English if its solution boxes an answer, or has one after `####`. Space around a
        problem is no part of it.
        """
        problem = problem.strip()
        found = find_kind(problem)
        if found is None:
            return _read_english(problem, solution)
        kind, parsed = found
        truth = kind.value(parsed)
        top, bottom = truth.as_integer_ratio()
        if top.bit_length() > LARGEST_TRUTH_BITS or bottom.bit_length() > LARGEST_TRUTH_BITS:
            return None
        return Question(kind.name, problem, truth)

    def find_error(self, question: Question, solution: str) -> str | None:
        """Why a stored solution is wrong, or None.

        In the data set's own form it must repeat the problem's numbers, and its answer must be exact, or correctly
        rounded within the headline tolerance. In any other form its answer must be within that tolerance, and every
        step that can be read must hold. An English solution cannot be wrong: it is where the truth comes from.
        """
        if question.kind == ENGLISH:
            return None
        kind, parsed = _found(question)
        solution, written = solution.strip(), kind.render_raw(parsed)
        if solution == written:
            return None
        given, expected = kind.solution_pattern.fullmatch(solution), kind.solution_pattern.fullmatch(written)
        if given is None or expected is None:
            return _free_text_fault(question, solution)
        before, expected_before = solution[: given.start(1)], written[: expected.start(1)]
        if before != expected_before:
            return f"another problem: the solution begins with {before!r}, not {expected_before!r}"
        if _agrees(given[1], _number(question)):
            return None
        return f"wrong answer: {given[1]} instead of {expected[1]}"

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
        """The solution to train on. `solution` is the stored one; English problems and the style raw make use of it."""
        if question.kind == ENGLISH:
            return add_answer_line(solution, style)
        kind, parsed = _found(question)
        if style == "raw":
            return solution.strip() if self.find_error(question, solution) is None else kind.render_raw(parsed)
        if style == "answer":
            return f"{ANSWER_MARKER} {kind.render_answer(parsed, rounding)}"
        if style == "digits" and (by_digits := _by_digits(kind, parsed)):
            return by_digits.render_digits(parsed)
        return kind.render_rule(parsed, rounding) if style == "rule" else kind.render_longhand(parsed, rounding)

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:
        """Why a written solution is wrong, or None: judged apart from the code that wrote it."""
        if question.kind == ENGLISH:
            same = grade(solution, question.truth).correct
            return None if same else "its final answer is not what the stored solution states"
        if style == "raw":
            return self.find_error(question, solution)
        if style == "rule":
            return rule_check.find_error(solution, question.text, _number(question), rounding)
        if style == "digits" and _by_digits(*_found(question)):
            return digits_check.find_error(solution, question.text, _number(question))
        return check.find_error(solution, question.truth, rounding)

    def canonical_form(self, question: Question) -> str:
        """A text that is the same for problems which differ only in the order of their numbers: a + b and b + a."""
        if question.kind not in _COMMUTATIVE:
            return question.text
        return " ".join([question.kind, *sorted(_NUMBER.findall(question.text))])

    def generate(self, kind: str, generator: random.Random) -> tuple[str, str]:
        """A random (problem, raw solution) of that kind, in the data set's ranges and format."""
        if kind == ENGLISH:
            return story.tell(generator)
        chosen = next(other for other in KINDS if other.name == kind)
        problem = chosen.sample(generator)
        return chosen.render_problem(problem), chosen.render_raw(problem)


def _by_digits(kind: Kind[Any], problem: Any) -> DigitKind[Any] | None:
    """The kind, where it can work the problem digit by digit; what it cannot is written in short steps."""
    return kind if isinstance(kind, DigitKind) and kind.supports_digits(problem) else None


def _found(question: Question) -> tuple[Kind[Any], Any]:
    """The kind and the parsed problem of a question that `read` made."""
    found = find_kind(question.text)
    assert found is not None
    return found


def _number(question: Question) -> Fraction:
    """The truth of a Chinese problem, which is always a number."""
    assert isinstance(question.truth, Fraction)
    return question.truth


def _agrees(stated: str, truth: Fraction) -> bool:
    """Whether an answer in the data set's form is the truth, but for float noise or correct rounding."""
    if "/" in stated:
        return stated == str(truth)
    error = abs(Fraction(stated) - truth)
    if error <= abs(truth) * FLOAT_NOISE:
        return True
    last_place = Decimal(stated).as_tuple().exponent
    assert isinstance(last_place, int)
    return error <= Fraction(10) ** last_place / 2 and grade(f"{ANSWER_MARKER} {stated}", truth).correct


def _free_text_fault(question: Question, solution: str) -> str | None:
    graded = grade(solution, question.truth, question.kind)
    if graded.answer is None:
        return "no answer: the solution states no number"
    if not graded.correct:
        return (
            f"wrong answer: {graded.answer[:LONGEST_QUOTE]} instead of {format_rounded(_number(question), Rounding(4))}"
        )
    step = find_false_step(solution)
    return None if step is None else f"wrong step: {step}"


def _read_english(problem: str, solution: str) -> Question | None:
    if _CHINESE.search(problem):
        return None
    truth = parse_stated_truth(solution)
    if truth is None:
        return None
    # What no grader can read, no model can be scored on.
    readable = grade(format_answer_line(solution), truth).correct
    return Question(ENGLISH, problem, truth) if readable else None
