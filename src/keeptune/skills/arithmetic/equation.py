"""Linear equations with integer coefficients: `解方程 ax + b = 0`."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, QuotientKind, sample_nonzero, sample_positive


@dataclass(frozen=True, slots=True)
class Line:
    """The line slope · x + intercept, whose zero is the answer; the slope is not 0."""

    slope: int
    intercept: int


class Equation(QuotientKind[Line]):
    """`解方程 -39x + 20 = 0` → `方程的解为：0.5128205128205128`; `解方程 -6x + 0 = 0` → `方程的解为：-0.0`"""

    name = "equation"
    problem_pattern = re.compile(rf"解方程 (-?{COUNT})x \+ (0|-?{COUNT}) = 0")
    solution_pattern = re.compile(rf"方程的解为：({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Line | None:
        return Line(int(match[1]), int(match[2]))

    def render_problem(self, problem: Line) -> str:
        return f"解方程 {problem.slope}x + {problem.intercept} = 0"

    def value(self, problem: Line) -> Fraction:
        return Fraction(-problem.intercept, problem.slope)

    def render_raw(self, problem: Line) -> str:
        return f"方程的解为：{-problem.intercept / problem.slope}"

    def longhand_steps(self, problem: Line, places: int) -> list[str]:
        top, bottom = abs(problem.intercept), abs(problem.slope)
        sign = "-" if self.value(problem) < 0 else ""
        return [
            f"{-problem.intercept}/{problem.slope}={sign}{top}/{bottom}",
            *longhand.quotient(top, bottom, places + 1),
        ]

    def divisor(self, problem: Line) -> Decimal:
        return Decimal(problem.slope)

    def digit_solution(self, problem: Line) -> DigitSolution:
        return procedures.equation(problem.slope, problem.intercept)

    def rule_lines(self, problem: Line, result: str) -> list[str]:
        return rules.equation(problem.slope, problem.intercept, result)

    def sample_any_length(self, generator: random.Random) -> Line:
        slope, intercept = (generator.choice((-1, 1)) * sample_positive(generator, 100) for _ in range(2))
        return Line(slope, intercept)

    def sample(self, generator: random.Random) -> Line:
        return Line(sample_nonzero(generator, 100), generator.randint(-100, 100))
