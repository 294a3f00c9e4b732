"""The mean of a list of integers: `求以下数据的平均值：[n1, n2, ...]`."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, DigitKind


@dataclass(frozen=True, slots=True)
class Numbers:
    """The listed integers in their order; at least one."""

    values: tuple[int, ...]


MAX_VALUES = 30
"""Most numbers that the digit procedure counts in one line; the data set has at most ten."""


class Mean(DigitKind[Numbers]):
    """`求以下数据的平均值：[20, 12, 72, 21, 95, 39]` → `平均值为 43.166666666666664`"""

    name = "mean"
    problem_pattern = re.compile(rf"求以下数据的平均值：\[({COUNT}(?:, {COUNT})*)\]")
    solution_pattern = re.compile(rf"平均值为 ({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Numbers | None:
        return Numbers(tuple(map(int, match[1].split(", "))))

    def render_problem(self, problem: Numbers) -> str:
        return f"求以下数据的平均值：[{', '.join(map(str, problem.values))}]"

    def value(self, problem: Numbers) -> Fraction:
        return Fraction(sum(problem.values), len(problem.values))

    def render_raw(self, problem: Numbers) -> str:
        return f"平均值为 {sum(problem.values) / len(problem.values)}"

    def longhand_steps(self, problem: Numbers, places: int) -> list[str]:
        total, count = sum(problem.values), len(problem.values)
        return [*longhand.running_sum(list(problem.values)), *longhand.quotient(total, count, places + 1)]

    def supports_digits(self, problem: Numbers) -> bool:
        return len(problem.values) <= MAX_VALUES

    def digit_solution(self, problem: Numbers) -> DigitSolution:
        return procedures.mean(problem.values)

    def rule_lines(self, problem: Numbers, result: str) -> list[str]:
        return rules.mean(problem.values, result)

    def sample(self, generator: random.Random) -> Numbers:
        length = generator.randint(3, 10)
        return Numbers(tuple(generator.randint(1, 100) for _ in range(length)))
