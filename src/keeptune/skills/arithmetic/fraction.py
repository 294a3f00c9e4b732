"""Reduction of fractions to lowest terms: `将分数 n/d 进行简化。`."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.grading.number import LOWEST_TERMS
from keeptune.skills.arithmetic import rules
from keeptune.skills.arithmetic.kind import COUNT, Kind


@dataclass(frozen=True, slots=True)
class Ratio:
    """A proper fraction as written: 0 < numerator < denominator."""

    numerator: int
    denominator: int


class Simplification(Kind[Ratio]):
    """`将分数 4/10 进行简化。` → `最简化的形式为：2/5`

    Only proper fractions are supported. The data set has no others, so its format for 4/2 is unknown.
    """

    name = LOWEST_TERMS
    problem_pattern = re.compile(rf"将分数 ({COUNT})/({COUNT}) 进行简化。")
    solution_pattern = re.compile(rf"最简化的形式为：({COUNT}/{COUNT})")

    def parse_match(self, match: re.Match[str]) -> Ratio | None:
        problem = Ratio(int(match[1]), int(match[2]))
        return problem if problem.numerator < problem.denominator else None

    def render_problem(self, problem: Ratio) -> str:
        return f"将分数 {problem.numerator}/{problem.denominator} 进行简化。"

    def value(self, problem: Ratio) -> Fraction:
        return Fraction(problem.numerator, problem.denominator)

    def render_raw(self, problem: Ratio) -> str:
        return f"最简化的形式为：{self.value(problem)}"

    def longhand_steps(self, problem: Ratio, places: int) -> list[str]:  # noqa: ARG002
        """Euclid's algorithm down to remainder 0; the last divisor is the greatest common divisor."""
        top, bottom = problem.numerator, problem.denominator
        lines, number, divisor = [], bottom, top
        while divisor:
            times, rest = divmod(number, divisor)
            lines.append(f"{number}-{times}*{divisor}={rest}")
            number, divisor = divisor, rest
        if number > 1:
            lines.append(f"{top}/{bottom}=({top}/{number})/({bottom}/{number})={top // number}/{bottom // number}")
        return lines

    def render_answer(self, problem: Ratio, rounding: Rounding) -> str:  # noqa: ARG002
        """Return the fraction in lowest terms; fractions are never rounded."""
        return str(self.value(problem))

    def rule_lines(self, problem: Ratio, result: str) -> list[str]:  # noqa: ARG002
        top, bottom = problem.numerator, problem.denominator
        return rules.fraction(top, bottom, math.gcd(top, bottom))

    def sample(self, generator: random.Random) -> Ratio:
        numerator, denominator = sorted(generator.sample(range(1, 11), 2))
        return Ratio(numerator, denominator)
