"""Powers and roots: `计算 A 的 n 次方？`, `计算 A 的平方根？`, `当 x = X 时，求函数 y = kx^n 的值`."""

from __future__ import annotations

import math
import random
import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import LARGEST_EXPONENT, DigitSolution
from keeptune.skills.arithmetic.kind import (
    AMOUNT,
    ANSWER,
    CONTEXT,
    COUNT,
    EXPONENT,
    LIMIT_HUNDREDTHS,
    UNSIGNED_AMOUNT,
    DigitKind,
    Kind,
    P,
    from_hundredths,
    sample_near_tie_value,
    sample_nonzero,
    sample_positive,
    sample_signed,
)
from keeptune.skills.rounding import format_rounded, last_place

# For m hundredths, √(m/100) = √m/10, so 60 more digits of √m suffice for any m ≥ 1.
ROOT_DIGITS = 60

NEAR_TIE_DISTANCE = 0.08
"""Largest distance of a near-tie root from a short number, in units of its last digit."""

FORGIVING_DIGITS = 5
"""With at least this many digits, the headline grader tolerates a last digit that is off by one."""


@dataclass(frozen=True, slots=True)
class Powered:
    """A base with two decimals and its exponent."""

    base: Decimal
    exponent: int


@dataclass(frozen=True, slots=True)
class Radicand:
    """A nonnegative number with two decimals, whose square root is the answer."""

    number: Decimal


@dataclass(frozen=True, slots=True)
class Monomial:
    """The function y = coefficient · x^exponent and the argument x."""

    x: Decimal
    coefficient: int
    exponent: int


class RoundedStepsKind(Kind[P]):
    """Base class of power and function: steps are rounded to eight digits, because exact numbers grow too long."""

    @abstractmethod
    def work_steps(self, problem: P) -> tuple[list[str], Fraction]:
        """Return the steps and their result."""

    def longhand_steps(self, problem: P, places: int) -> list[str]:  # noqa: ARG002
        return self.work_steps(problem)[0]

    def render_longhand(self, problem: P, rounding: Rounding) -> str:
        """Return the step-by-step solution, whose answer is the rounded result of the last step.

        A model cannot learn digits that no step shows. With few requested digits, the exact value is rounded
        instead, because rounding twice sometimes gives another number.
        """
        lines, result = self.work_steps(problem)
        exact = self.value(problem)
        few = last_place(exact, rounding) > last_place(exact, Rounding(digits=FORGIVING_DIGITS))
        return "\n".join([*lines, f"{ANSWER_MARKER} {format_rounded(exact if few else result, rounding)}"])


class Power(RoundedStepsKind[Powered], DigitKind[Powered]):
    """`计算 -833.12 的 2 次方？` → `-833.12^2 = 694088.9344`; the sign belongs to the base."""

    name = "power"
    problem_pattern = re.compile(rf"计算 ({AMOUNT}) 的 (0|{EXPONENT}) 次方？")
    required_text = "次方"
    solution_pattern = re.compile(rf"{AMOUNT}\^(?:0|{EXPONENT}) = ({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Powered | None:
        problem = Powered(Decimal(match[1]), int(match[2]))
        return problem if problem.base or problem.exponent else None

    def render_problem(self, problem: Powered) -> str:
        return f"计算 {problem.base} 的 {problem.exponent} 次方？"

    def value(self, problem: Powered) -> Fraction:
        return Fraction(problem.base) ** problem.exponent

    def render_raw(self, problem: Powered) -> str:
        answer = CONTEXT.to_sci_string(CONTEXT.power(problem.base, problem.exponent))
        return f"{problem.base}^{problem.exponent} = {answer}"

    def work_steps(self, problem: Powered) -> tuple[list[str], Fraction]:
        if problem.exponent < 2:
            return [], self.value(problem)
        lines, result = longhand.power(problem.base, problem.exponent)
        return lines, Fraction(result)

    def supports_digits(self, problem: Powered) -> bool:
        return problem.exponent <= LARGEST_EXPONENT

    def digit_solution(self, problem: Powered) -> DigitSolution:
        return procedures.power(problem.base, problem.exponent)

    def rule_lines(self, problem: Powered, result: str) -> list[str]:
        return rules.power(problem.base, problem.exponent, result)

    def sample_any_length(self, generator: random.Random) -> Powered:
        return replace(self.sample(generator), base=from_hundredths(sample_signed(generator, 100_000)))

    def sample(self, generator: random.Random) -> Powered:
        return Powered(from_hundredths(sample_nonzero(generator, 100_000)), generator.randint(0, 5))


class SquareRoot(DigitKind[Radicand]):
    """`计算 5636.97 的平方根？` → `√5636.97 = 75.07975759151064280958687335`"""

    name = "sqrt"
    problem_pattern = re.compile(rf"计算 ({UNSIGNED_AMOUNT}) 的平方根？")
    required_text = "平方根"
    solution_pattern = re.compile(rf"√{UNSIGNED_AMOUNT} = ({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Radicand | None:
        return Radicand(Decimal(match[1]))

    def render_problem(self, problem: Radicand) -> str:
        return f"计算 {problem.number} 的平方根？"

    def value(self, problem: Radicand) -> Fraction:
        """Return the root truncated after at least 60 digits; it is exact if it has at most two decimals."""
        hundredths = int(Fraction(problem.number) * 100)
        return Fraction(math.isqrt(hundredths * 10 ** (2 * ROOT_DIGITS)), 10 ** (ROOT_DIGITS + 1))

    def render_raw(self, problem: Radicand) -> str:
        return f"√{problem.number} = {CONTEXT.to_sci_string(CONTEXT.sqrt(problem.number))}"

    def longhand_steps(self, problem: Radicand, places: int) -> list[str]:
        return longhand.root(int(problem.number * 100), places + 1)

    def supports_digits(self, problem: Radicand) -> bool:
        return problem.number <= procedures.LARGEST_RADICAND

    def digit_solution(self, problem: Radicand) -> DigitSolution:
        return procedures.square_root(problem.number)

    def rule_lines(self, problem: Radicand, result: str) -> list[str]:
        return rules.square_root(problem.number, result)

    def sample_any_length(self, generator: random.Random) -> Radicand:
        return Radicand(from_hundredths(sample_positive(generator, 999_999)))

    def sample_near_tie(self, generator: random.Random) -> Radicand:
        """Sample a root close to a number of few digits."""
        root = sample_near_tie_value(generator, math.sqrt(generator.uniform(1, LIMIT_HUNDREDTHS)), NEAR_TIE_DISTANCE)
        hundredths = round(root * root)
        return (
            Radicand(from_hundredths(hundredths)) if hundredths <= LIMIT_HUNDREDTHS else self.sample_near_tie(generator)
        )

    def sample(self, generator: random.Random) -> Radicand:
        return Radicand(from_hundredths(generator.randint(0, LIMIT_HUNDREDTHS)))


class Function(RoundedStepsKind[Monomial], DigitKind[Monomial]):
    """`当 x = 7.59 时，求函数 y = 68x^95 的值` → `函数的值为：2.854155448324274205322988364E+85`"""

    name = "function"
    problem_pattern = re.compile(rf"当 x = ({UNSIGNED_AMOUNT}) 时，求函数 y = ({COUNT})x\^({EXPONENT}) 的值")
    solution_pattern = re.compile(rf"函数的值为：({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Monomial | None:
        return Monomial(Decimal(match[1]), int(match[2]), int(match[3]))

    def render_problem(self, problem: Monomial) -> str:
        return f"当 x = {problem.x} 时，求函数 y = {problem.coefficient}x^{problem.exponent} 的值"

    def value(self, problem: Monomial) -> Fraction:
        return problem.coefficient * Fraction(problem.x) ** problem.exponent

    def render_raw(self, problem: Monomial) -> str:
        # As in the data set, the power is rounded before the multiplication.
        answer = CONTEXT.multiply(problem.coefficient, CONTEXT.power(problem.x, problem.exponent))
        return f"函数的值为：{CONTEXT.to_sci_string(answer)}"

    def work_steps(self, problem: Monomial) -> tuple[list[str], Fraction]:
        lines, raised = longhand.power(problem.x, problem.exponent)
        last, result = longhand.rounded_product(Decimal(problem.coefficient), raised)
        return [*lines, last], Fraction(result)

    def supports_digits(self, problem: Monomial) -> bool:
        return problem.exponent <= LARGEST_EXPONENT

    def digit_solution(self, problem: Monomial) -> DigitSolution:
        return procedures.function(problem.x, problem.coefficient, problem.exponent)

    def rule_lines(self, problem: Monomial, result: str) -> list[str]:
        return rules.function(problem.x, problem.coefficient, problem.exponent, result)

    def sample_any_length(self, generator: random.Random) -> Monomial:
        x, exponent = (abs(sample_signed(generator, limit)) for limit in (1_000, LARGEST_EXPONENT))
        return replace(self.sample(generator), x=from_hundredths(x), exponent=exponent)

    def sample(self, generator: random.Random) -> Monomial:
        x = from_hundredths(generator.randint(1, 1_000))
        return Monomial(x, generator.randint(1, 100), generator.randint(1, LARGEST_EXPONENT))
