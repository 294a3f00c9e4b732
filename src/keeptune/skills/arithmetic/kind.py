"""What one kind of arithmetic problem knows, and the number formats that all kinds share.

A kind reads a problem only if it is written exactly as the contest's data set writes it. Whatever is spelled
otherwise is not understood: a wrong guess here would become a wrong truth in every later stage.
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

# Digits are [0-9], for \d also matches other scripts. Lengths are bounded so that a hostile row cannot ask for
# a number with a million digits.
UNSIGNED_AMOUNT = r"(?:0|[1-9][0-9]{0,8})\.[0-9]{2}"
AMOUNT = "-?" + UNSIGNED_AMOUNT
COUNT = r"[1-9][0-9]{0,8}"
EXPONENT = r"[1-9][0-9]{0,2}"
ANSWER = r"-?[0-9]{1,64}(?:\.[0-9]{1,64})?(?:[Ee][+-]?[0-9]{1,4})?"

LIMIT_HUNDREDTHS = 1_000_000
"""The largest number of an operation, and the largest whose root is asked for."""

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
"""Python's default decimal context, which the data set was made with; ours, so that nobody else can change it."""


class Kind(ABC, Generic[P]):
    """One kind of problem: how it is written, what its exact answer is, and how to draw a new one."""

    name: ClassVar[str]
    problem_pattern: ClassVar[re.Pattern[str]]
    """Matches a whole problem; it opens with a literal character, which `kinds.find_kind` dispatches on."""
    required_text: ClassVar[str] = ""
    """A text that stands in every problem of this kind: looked for first, for it is found in no time."""
    solution_pattern: ClassVar[re.Pattern[str]]
    """Matches a whole raw solution; group 1 is the stated answer."""

    def parse(self, text: str) -> P | None:
        """The problem, or None unless `write` would give back `text` character for character."""
        match = self.problem_pattern.fullmatch(text)
        return None if match is None else self.parse_match(match)

    @abstractmethod
    def parse_match(self, match: re.Match[str]) -> P | None:
        """The problem of a matched text, or None where it is well written but has no answer, such as x / 0."""

    @abstractmethod
    def render_problem(self, problem: P) -> str:
        """The problem's text, as the data set writes it."""

    @abstractmethod
    def value(self, problem: P) -> Fraction:
        """The exact answer."""

    @abstractmethod
    def render_raw(self, problem: P) -> str:
        """The solution's text, byte for byte as the data set writes it, float noise included."""

    @abstractmethod
    def longhand_steps(self, problem: P, places: int) -> list[str]:
        """The lines that lead to the answer with so many decimals, each a statement that holds by itself."""

    def render_answer(self, problem: P, rounding: Rounding) -> str:
        """The exact answer, rounded as declared."""
        return format_rounded(self.value(problem), rounding)

    def render_longhand(self, problem: P, rounding: Rounding) -> str:
        """The worked solution: the steps, and the answer behind the marker on the last line."""
        steps = self.longhand_steps(problem, decimal_places(self.value(problem), rounding))
        return "\n".join([*steps, f"{ANSWER_MARKER} {self.render_answer(problem, rounding)}"])

    @abstractmethod
    def rule_lines(self, problem: P, result: str) -> list[str]:
        """The sentences that state a rule, and the statement that applies it: an expression, and `result` behind it."""

    def render_rule(self, problem: P, rounding: Rounding) -> str:
        """The rule applied, and the answer behind the marker on the last line."""
        lines = self.rule_lines(problem, rules.result(self.value(problem), rounding))
        return "\n".join([*lines, f"{ANSWER_MARKER} {self.render_answer(problem, rounding)}"])

    def extract_answer(self, solution: str) -> str | None:
        """The number that a raw solution states as its answer, or None if it is not written in this kind's way."""
        match = self.solution_pattern.fullmatch(solution)
        return None if match is None else match[1]

    def sample_any_length(self, generator: random.Random) -> P:
        """A problem whose numbers are of every length equally often, where the data set's are nearly all long."""
        return self.sample(generator)

    def sample_near_tie(self, generator: random.Random) -> P:
        """A problem in which a late digit decides, of which an even draw has few."""
        return self.sample(generator)

    @abstractmethod
    def sample(self, generator: random.Random) -> P:
        """A problem drawn evenly from the data set's ranges."""


class DigitKind(Kind[P]):
    """A kind whose problems can also be worked digit by digit."""

    def supports_digits(self, problem: P) -> bool:  # noqa: ARG002
        """Whether the procedure is exact enough for this problem."""
        return True

    @abstractmethod
    def digit_solution(self, problem: P) -> DigitSolution:
        """The steps digit by digit, and the answer that they end with."""

    def render_digits(self, problem: P) -> str:
        """The solution worked digit by digit, and the answer behind the marker on the last line."""
        worked = self.digit_solution(problem)
        return "\n".join([*worked.lines, f"{ANSWER_MARKER} {worked.answer}"])


class QuotientKind(DigitKind[P]):
    """A kind whose work digit by digit ends with a quotient."""

    @abstractmethod
    def divisor(self, problem: P) -> Decimal:
        """What is divided by."""

    def supports_digits(self, problem: P) -> bool:
        """Not those few where what is left grows over its columns, as 9986.95 / 9986.96: of divisors just below a power
        of ten, under nearly as much."""
        if not str(abs(self.divisor(problem))).lstrip("0.").startswith("9"):
            return True
        value = self.value(problem)
        cut_off = abs(Fraction(self.digit_solution(problem).answer) - value)
        return cut_off <= max(Fraction(1, 500), abs(value) / 50_000)


def from_hundredths(hundredths: int) -> Decimal:
    """The number with two decimals that is so many hundredths."""
    return Decimal(f"{hundredths / 100:.2f}")


def sample_signed(generator: random.Random, limit: int) -> int:
    """An integer from -limit..-1 and 1..limit, of every number of digits equally often."""
    drawn = int(10 ** generator.uniform(0, math.log10(limit)))
    return drawn if generator.random() < 0.5 else -drawn


def sample_positive(generator: random.Random, limit: int) -> int:
    """An integer from 1..limit, of every number of digits equally often."""
    digits = generator.randint(1, len(str(limit)))
    return generator.randint(10 ** (digits - 1), min(limit, 10**digits - 1))


def sample_near_tie_value(generator: random.Random, value: float, share: float) -> float:
    """A number like `value`, but within `share` of a last digit's unit from a number of one to three digits.

    The digit behind which nearly nothing or nearly a whole is left is the one that a first look at two numbers gets
    wrong: 10 of 15 quotients within a hundredth were, and 9 of 314 others (results/LOG.md, 2026-11-23).
    """
    unit = 10.0 ** (Decimal(value).adjusted() - generator.randrange(3))
    return unit * (round(value / unit) + generator.uniform(-share, share))


def sample_nonzero(generator: random.Random, limit: int) -> int:
    """An integer drawn evenly from -limit..-1 and 1..limit."""
    drawn = generator.randrange(-limit, limit)
    return drawn + 1 if drawn >= 0 else drawn
