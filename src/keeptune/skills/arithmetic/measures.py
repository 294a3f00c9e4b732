"""Products of two quantities: area of a rectangle (`一个长方形的长为 …`) and mass of a body (`某物体的密度为 …`)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, DigitKind, sample_positive


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle with both sides in centimeters."""

    length: int
    width: int


@dataclass(frozen=True, slots=True)
class Body:
    """A body: density in grams per cubic centimeter, volume in cubic centimeters."""

    density: int
    volume: int


class Area(DigitKind[Rectangle]):
    """`一个长方形的长为 87 厘米，宽为 4 厘米，请计算其面积。` → `面积为 348 平方厘米`"""

    name = "area"
    problem_pattern = re.compile(rf"一个长方形的长为 ({COUNT}) 厘米，宽为 ({COUNT}) 厘米，请计算其面积。")
    solution_pattern = re.compile(rf"面积为 ({ANSWER}) 平方厘米")

    def parse_match(self, match: re.Match[str]) -> Rectangle | None:
        return Rectangle(int(match[1]), int(match[2]))

    def render_problem(self, problem: Rectangle) -> str:
        return f"一个长方形的长为 {problem.length} 厘米，宽为 {problem.width} 厘米，请计算其面积。"

    def value(self, problem: Rectangle) -> Fraction:
        return Fraction(problem.length * problem.width)

    def render_raw(self, problem: Rectangle) -> str:
        return f"面积为 {problem.length * problem.width} 平方厘米"

    def longhand_steps(self, problem: Rectangle, places: int) -> list[str]:  # noqa: ARG002
        return longhand.product(problem.length, problem.width)

    def digit_solution(self, problem: Rectangle) -> DigitSolution:
        return procedures.area(problem.length, problem.width)

    def rule_lines(self, problem: Rectangle, result: str) -> list[str]:
        return rules.area(problem.length, problem.width, result)

    def sample_any_length(self, generator: random.Random) -> Rectangle:
        return Rectangle(sample_positive(generator, 100), sample_positive(generator, 100))

    def sample(self, generator: random.Random) -> Rectangle:
        return Rectangle(generator.randint(1, 100), generator.randint(1, 100))


class Mass(DigitKind[Body]):
    """`某物体的密度为 10 克/立方厘米，体积为 3 立方厘米，请计算该物体的质量。` → `30 克`"""

    name = "mass"
    problem_pattern = re.compile(
        rf"某物体的密度为 ({COUNT}) 克/立方厘米，体积为 ({COUNT}) 立方厘米，请计算该物体的质量。"
    )
    solution_pattern = re.compile(rf"({ANSWER}) 克")

    def parse_match(self, match: re.Match[str]) -> Body | None:
        return Body(int(match[1]), int(match[2]))

    def render_problem(self, problem: Body) -> str:
        return f"某物体的密度为 {problem.density} 克/立方厘米，体积为 {problem.volume} 立方厘米，请计算该物体的质量。"

    def value(self, problem: Body) -> Fraction:
        return Fraction(problem.density * problem.volume)

    def render_raw(self, problem: Body) -> str:
        return f"{problem.density * problem.volume} 克"

    def longhand_steps(self, problem: Body, places: int) -> list[str]:  # noqa: ARG002
        return [f"{problem.density}*{problem.volume}={problem.density * problem.volume}"]

    def digit_solution(self, problem: Body) -> DigitSolution:
        return procedures.area(problem.density, problem.volume)

    def rule_lines(self, problem: Body, result: str) -> list[str]:
        return rules.mass(problem.density, problem.volume, result)

    def sample(self, generator: random.Random) -> Body:
        return Body(generator.randint(1, 10), generator.randint(1, 10))
