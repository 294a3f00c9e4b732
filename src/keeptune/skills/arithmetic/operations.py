"""The four operations on two numbers with two decimals: `计算 A + B 等于多少？`, with +, -, * or /."""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import (
    AMOUNT,
    ANSWER,
    CONTEXT,
    LIMIT_HUNDREDTHS,
    DigitKind,
    QuotientKind,
    from_hundredths,
    sample_near_tie_value,
    sample_nonzero,
    sample_signed,
)

NEAR_TIE_DISTANCE = 0.02
"""Largest distance of a near-tie quotient from a short number, in units of its last digit."""


@dataclass(frozen=True, slots=True)
class Operands:
    """The two operands, with two decimals each."""

    left: Decimal
    right: Decimal


def _problem(symbol: str) -> re.Pattern[str]:
    return re.compile(rf"计算 ({AMOUNT}) {re.escape(symbol)} ({AMOUNT}) 等于多少？")


def _solution(symbol: str) -> re.Pattern[str]:
    return re.compile(rf"{AMOUNT} {re.escape(symbol)} {AMOUNT} = ({ANSWER})")


class Operation(DigitKind[Operands]):
    """Base class of the four operations."""

    symbol: ClassVar[str]

    @abstractmethod
    def decimal(self, problem: Operands) -> Decimal:
        """Return the answer with 28 significant digits, as in the data set."""

    def parse_match(self, match: re.Match[str]) -> Operands | None:
        return Operands(Decimal(match[1]), Decimal(match[2]))

    def value(self, problem: Operands) -> Fraction:
        # Operands have at most eleven digits, so sums, differences and products fit the context and are exact.
        return Fraction(self.decimal(problem))

    def render_problem(self, problem: Operands) -> str:
        return f"计算 {problem.left} {self.symbol} {problem.right} 等于多少？"

    def render_raw(self, problem: Operands) -> str:
        answer = CONTEXT.to_sci_string(self.decimal(problem))
        return f"{problem.left} {self.symbol} {problem.right} = {answer}"

    def sample_any_length(self, generator: random.Random) -> Operands:
        left = from_hundredths(sample_signed(generator, LIMIT_HUNDREDTHS))
        return Operands(left, from_hundredths(sample_signed(generator, LIMIT_HUNDREDTHS)))

    def sample_near_tie(self, generator: random.Random) -> Operands:
        """Sample operands whose first two digits are equal, so that later digits decide which one is larger."""
        right = sample_nonzero(generator, LIMIT_HUNDREDTHS)
        unit = 10 ** max(0, len(str(abs(right))) - 2)
        left = abs(right) // unit * unit + generator.randrange(unit)
        return Operands(from_hundredths(generator.choice((left, -left))), from_hundredths(right))

    def sample(self, generator: random.Random) -> Operands:
        left = from_hundredths(sample_nonzero(generator, LIMIT_HUNDREDTHS))
        return Operands(left, from_hundredths(sample_nonzero(generator, LIMIT_HUNDREDTHS)))


def _column_steps(symbol: str, problem: Operands, right: Decimal) -> list[str]:
    """Return the steps of left + `right`; for a subtraction, `right` has the opposite sign."""
    left, same = problem.left, (problem.left < 0) == (right < 0)
    larger, smaller = sorted((left, right), key=abs, reverse=True)
    first, second = (left, right) if same else (larger, smaller)
    negative = (left if same else larger) < 0
    a, b = _hundredths(first), _hundredths(second)
    width = max(len(str(a)), len(str(b)), 3)
    inner = f"({_padded(a, width)}{'+' if same else '-'}{_padded(b, width)})"
    head = f"{left}{symbol}{problem.right}={'-' if negative else ''}{inner}"
    columns = longhand.column_sum if same else longhand.column_difference
    return [head, *columns(a, b, 2)]


def _hundredths(number: Decimal) -> int:
    return int(abs(number) * 100)


def _padded(hundredths: int, width: int) -> str:
    digits = f"{hundredths:0{width}d}"
    return f"{digits[:-2]}.{digits[-2:]}"


def _sign(problem: Operands) -> str:
    return "-" if (problem.left < 0) != (problem.right < 0) else ""


class Addition(Operation):
    """`计算 4204.22 + -2369.17 等于多少？` → `4204.22 + -2369.17 = 1835.05`"""

    name = "add"
    symbol = "+"
    problem_pattern = _problem("+")
    required_text = " + "
    solution_pattern = _solution("+")

    def decimal(self, problem: Operands) -> Decimal:
        return CONTEXT.add(problem.left, problem.right)

    def longhand_steps(self, problem: Operands, places: int) -> list[str]:  # noqa: ARG002
        return _column_steps("+", problem, problem.right)

    def digit_solution(self, problem: Operands) -> DigitSolution:
        return procedures.addition(problem.left, problem.right)

    def rule_lines(self, problem: Operands, result: str) -> list[str]:
        return rules.addition(problem.left, problem.right, result)


class Subtraction(Operation):
    """`计算 6874.58 - -2728.62 等于多少？` → `6874.58 - -2728.62 = 9603.20`"""

    name = "sub"
    symbol = "-"
    problem_pattern = _problem("-")
    required_text = " - "
    solution_pattern = _solution("-")

    def decimal(self, problem: Operands) -> Decimal:
        return CONTEXT.subtract(problem.left, problem.right)

    def longhand_steps(self, problem: Operands, places: int) -> list[str]:  # noqa: ARG002
        return _column_steps("-", problem, -problem.right)

    def digit_solution(self, problem: Operands) -> DigitSolution:
        return procedures.addition(problem.left, -problem.right)

    def rule_lines(self, problem: Operands, result: str) -> list[str]:
        return rules.subtraction(problem.left, problem.right, result)


class Multiplication(Operation):
    """`计算 3963.85 * -5055.68 等于多少？` → `3963.85 * -5055.68 = -20039957.1680`, always with four decimals."""

    name = "mul"
    symbol = "*"
    problem_pattern = _problem("*")
    required_text = " * "
    solution_pattern = _solution("*")

    def decimal(self, problem: Operands) -> Decimal:
        return CONTEXT.multiply(problem.left, problem.right)

    def longhand_steps(self, problem: Operands, places: int) -> list[str]:  # noqa: ARG002
        left, right = _hundredths(problem.left), _hundredths(problem.right)
        head = f"{problem.left}*{problem.right}={_sign(problem)}{left}*{right}/10000"
        return [head, *longhand.crossed_product(left, right)]

    def digit_solution(self, problem: Operands) -> DigitSolution:
        return procedures.multiplication(problem.left, problem.right)

    def rule_lines(self, problem: Operands, result: str) -> list[str]:
        return rules.product(problem.left, problem.right, result)


class Division(Operation, QuotientKind[Operands]):
    """`计算 3008.48 / 3439.46 等于多少？` → `3008.48 / 3439.46 = 0.8746954463782105330487925430`"""

    name = "div"
    symbol = "/"
    problem_pattern = _problem("/")
    required_text = " / "
    solution_pattern = _solution("/")

    def parse_match(self, match: re.Match[str]) -> Operands | None:
        problem = Operands(Decimal(match[1]), Decimal(match[2]))
        return problem if problem.right else None

    def value(self, problem: Operands) -> Fraction:
        top, bottom = problem.left.as_integer_ratio(), problem.right.as_integer_ratio()
        return Fraction(top[0] * bottom[1], top[1] * bottom[0])

    def decimal(self, problem: Operands) -> Decimal:
        return CONTEXT.divide(problem.left, problem.right)

    def sample_near_tie(self, generator: random.Random) -> Operands:
        """Sample a quotient close to a number of few digits."""
        drawn = self.sample(generator)
        quotient = sample_near_tie_value(generator, float(abs(self.decimal(drawn))), NEAR_TIE_DISTANCE)
        hundredths = round(quotient * _hundredths(drawn.right))
        if hundredths > LIMIT_HUNDREDTHS:
            return self.sample_near_tie(generator)
        return replace(drawn, left=from_hundredths(hundredths).copy_sign(drawn.left))

    def longhand_steps(self, problem: Operands, places: int) -> list[str]:
        left, right = _hundredths(problem.left), _hundredths(problem.right)
        head = f"{problem.left}/{problem.right}={_sign(problem)}{left}/{right}"
        return [head, *longhand.quotient(left, right, places + 1)]

    def supports_digits(self, problem: Operands) -> bool:
        """Whether the quotient is accurate enough and needs no exponent."""
        return procedures.is_written_out(problem.left, problem.right) and super().supports_digits(problem)

    def divisor(self, problem: Operands) -> Decimal:
        return problem.right

    def digit_solution(self, problem: Operands) -> DigitSolution:
        return procedures.division(problem.left, problem.right)

    def rule_lines(self, problem: Operands, result: str) -> list[str]:
        return rules.quotient(problem.left, problem.right, result)
