"""Base classes of the arithmetic problem kinds, and the number formats that they share.

A kind parses a problem only if it is written exactly as in the contest's data set. Any other spelling is rejected,
because a wrong guess here becomes a wrong truth in every later stage.
"""

from __future__ import annotations

import math
import random
import re
from abc import ABC, abstractmethod
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction
from typing import ClassVar, Generic, TypeVar

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.skills.arithmetic import rules
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.rounding import decimal_places, format_rounded

P = TypeVar("P")

# Regular expressions of the number formats. Digits are [0-9], because \d also matches other scripts. Lengths are
# limited, so that a hostile row cannot contain a number with a million digits.
UNSIGNED_AMOUNT = r"(?:0|[1-9][0-9]{0,8})\.[0-9]{2}"
AMOUNT = "-?" + UNSIGNED_AMOUNT
COUNT = r"[1-9][0-9]{0,8}"
EXPONENT = r"[1-9][0-9]{0,2}"
ANSWER = r"-?[0-9]{1,64}(?:\.[0-9]{1,64})?(?:[Ee][+-]?[0-9]{1,4})?"

LIMIT_HUNDREDTHS = 1_000_000
"""Largest operand and largest radicand of the data set, in hundredths."""

CONTEXT = Context(
    prec=28,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
"""Python's default decimal context, as used for the data set; a private copy, so that no other code changes it."""


class Kind(ABC, Generic[P]):
    """One kind of problem: its text format, its exact answer, its solutions, and random samples."""

    name: ClassVar[str]
    problem_pattern: ClassVar[re.Pattern[str]]
    """Matches a whole problem. It begins with a literal character, which `kinds.find_kind` dispatches on."""
    required_text: ClassVar[str] = ""
    """A text that every problem of this kind contains. It is tested before the pattern, because the test is fast."""
    solution_pattern: ClassVar[re.Pattern[str]]
    """Matches a whole raw solution; group 1 is its answer."""

    def parse(self, text: str) -> P | None:
        """Return the problem, or None unless `render_problem` returns exactly `text` for it."""
        match = self.problem_pattern.fullmatch(text)
        return None if match is None else self.parse_match(match)

    @abstractmethod
    def parse_match(self, match: re.Match[str]) -> P | None:
        """Return the problem of a matched text, or None if it has no answer, such as x / 0."""

    @abstractmethod
    def render_problem(self, problem: P) -> str:
        """Return the text of the problem in the format of the data set."""

    @abstractmethod
    def value(self, problem: P) -> Fraction:
        """Return the exact answer."""

    @abstractmethod
    def render_raw(self, problem: P) -> str:
        """Return the solution byte for byte as in the data set, including its floating-point errors."""

    @abstractmethod
    def longhand_steps(self, problem: P, places: int) -> list[str]:
        """Return the lines that lead to an answer with `places` decimals; each line is a true statement by itself."""

    def render_answer(self, problem: P, rounding: Rounding) -> str:
        """Return the exact answer, rounded as declared."""
        return format_rounded(self.value(problem), rounding)

    def render_longhand(self, problem: P, rounding: Rounding) -> str:
        """Return the step-by-step solution, with the answer after the marker on the last line."""
        steps = self.longhand_steps(problem, decimal_places(self.value(problem), rounding))
        return "\n".join([*steps, f"{ANSWER_MARKER} {self.render_answer(problem, rounding)}"])

    @abstractmethod
    def rule_lines(self, problem: P, result: str) -> list[str]:
        """Return sentences that state a rule, and a statement that applies it: an expression followed by `result`."""

    def render_rule(self, problem: P, rounding: Rounding) -> str:
        """Return the rule and its application, with the answer after the marker on the last line."""
        lines = self.rule_lines(problem, rules.result(self.value(problem), rounding))
        return "\n".join([*lines, f"{ANSWER_MARKER} {self.render_answer(problem, rounding)}"])

    def extract_answer(self, solution: str) -> str | None:
        """Return the answer that a raw solution states, or None if it is not in the format of this kind."""
        match = self.solution_pattern.fullmatch(solution)
        return None if match is None else match[1]

    def sample_any_length(self, generator: random.Random) -> P:
        """Sample a problem in which all number lengths are equally likely; most numbers of the data set are long."""
        return self.sample(generator)

    def sample_near_tie(self, generator: random.Random) -> P:
        """Sample a problem that a late digit decides; uniform sampling yields few of them."""
        return self.sample(generator)

    @abstractmethod
    def sample(self, generator: random.Random) -> P:
        """Sample a problem uniformly from the ranges of the data set."""


class DigitKind(Kind[P]):
    """A kind whose problems can also be solved digit by digit."""

    def supports_digits(self, problem: P) -> bool:  # noqa: ARG002
        """Whether the digit procedure is accurate enough for this problem."""
        return True

    @abstractmethod
    def digit_solution(self, problem: P) -> DigitSolution:
        """Return the steps of the digit procedure and the answer that they end with."""

    def render_digits(self, problem: P) -> str:
        """Return the digit-by-digit solution, with the answer after the marker on the last line."""
        solution = self.digit_solution(problem)
        return "\n".join([*solution.lines, f"{ANSWER_MARKER} {solution.answer}"])


class QuotientKind(DigitKind[P]):
    """A kind whose digit procedure ends with a quotient."""

    @abstractmethod
    def divisor(self, problem: P) -> Decimal:
        """Return the divisor of that quotient."""

    def supports_digits(self, problem: P) -> bool:
        """Whether the quotient is accurate enough.

        It is not for a few problems such as 9986.95 / 9986.96, with a divisor just below a power of ten and a
        dividend close to it. There the remainder outgrows its columns.
        """
        if not str(abs(self.divisor(problem))).lstrip("0.").startswith("9"):
            return True
        value = self.value(problem)
        error = abs(Fraction(self.digit_solution(problem).answer) - value)
        return error <= max(Fraction(1, 500), abs(value) / 50_000)


def from_hundredths(hundredths: int) -> Decimal:
    """Return a number of hundredths as a decimal with two places."""
    return Decimal(f"{hundredths / 100:.2f}")


def sample_signed(generator: random.Random, limit: int) -> int:
    """Sample a nonzero integer from -limit to limit; all lengths are about equally likely."""
    drawn = int(10 ** generator.uniform(0, math.log10(limit)))
    return drawn if generator.random() < 0.5 else -drawn


def sample_positive(generator: random.Random, limit: int) -> int:
    """Sample an integer from 1 to limit; all lengths are equally likely."""
    digits = generator.randint(1, len(str(limit)))
    return generator.randint(10 ** (digits - 1), min(limit, 10**digits - 1))


def sample_near_tie_value(generator: random.Random, value: float, share: float) -> float:
    """Sample a number near `value` that almost equals a number of one to three digits.

    Its distance from that number is at most `share` units of the last digit. Models misjudge such digits: 10 of 15
    quotients within a hundredth were wrong, and 9 of 314 others (results/LOG.md, 2026-11-23).
    """
    unit = 10.0 ** (Decimal(value).adjusted() - generator.randrange(3))
    return unit * (round(value / unit) + generator.uniform(-share, share))


def sample_nonzero(generator: random.Random, limit: int) -> int:
    """Sample a nonzero integer uniformly from -limit to limit."""
    drawn = generator.randrange(-limit, limit)
    return drawn + 1 if drawn >= 0 else drawn
