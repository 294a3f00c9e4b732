"""The mean of a list of integers: `求以下数据的平均值：[n1, n2, ...]`."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import Worked
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, KindByDigits


@dataclass(frozen=True, slots=True)
class Numbers:
    """The integers, in the order in which they are listed; there is at least one."""

    values: tuple[int, ...]


MOST_COUNTED = 30
"""Numbers that are counted in one line; the data set has ten at most."""


class Mean(KindByDigits[Numbers]):
    """`求以下数据的平均值：[20, 12, 72, 21, 95, 39]` → `平均值为 43.166666666666664`"""

    name = "mean"
    problem_pattern = re.compile(rf"求以下数据的平均值：\[({COUNT}(?:, {COUNT})*)\]")
    solution_pattern = re.compile(rf"平均值为 ({ANSWER})")

    def read(self, match: re.Match[str]) -> Numbers | None:
        return Numbers(tuple(map(int, match[1].split(", "))))

    def write(self, problem: Numbers) -> str:
        return f"求以下数据的平均值：[{', '.join(map(str, problem.values))}]"

    def value(self, problem: Numbers) -> Fraction:
        return Fraction(sum(problem.values), len(problem.values))

    def raw_solution(self, problem: Numbers) -> str:
        return f"平均值为 {sum(problem.values) / len(problem.values)}"

    def steps(self, problem: Numbers, places: int) -> list[str]:
        total, count = sum(problem.values), len(problem.values)
        return [*longhand.running_sum(list(problem.values)), *longhand.quotient(total, count, places + 1)]

    def reaches(self, problem: Numbers) -> bool:
        return len(problem.values) <= MOST_COUNTED

    def worked(self, problem: Numbers) -> Worked:
        return procedures.mean(problem.values)

    def rule(self, problem: Numbers, result: str) -> list[str]:
        return rules.mean(problem.values, result)

    def random(self, generator: random.Random) -> Numbers:
        length = generator.randint(3, 10)
        return Numbers(tuple(generator.randint(1, 100) for _ in range(length)))
