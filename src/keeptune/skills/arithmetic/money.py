"""Percentages of money: discount (`商品原价为 …`) and sales growth (`去年销售额为 …`).

Both solutions are a number without a unit. The order of the float operations follows the data set, because any other
order changes the last digits.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, DigitKind, QuotientKind, sample_positive


@dataclass(frozen=True, slots=True)
class Price:
    """A price before and after the discount, in yuan; the second may be higher."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Last year's sales in units of 10,000 yuan, and their growth in percent."""

    sales: int
    percent: int


class Discount(QuotientKind[Price]):
    """`商品原价为 60 元，打折后的价格为 24 元，请计算打折的折扣比例。` → `60.0`: the percentage taken off."""

    name = "discount"
    problem_pattern = re.compile(rf"商品原价为 ({COUNT}) 元，打折后的价格为 ({COUNT}) 元，请计算打折的折扣比例。")
    solution_pattern = re.compile(f"({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Price | None:
        return Price(int(match[1]), int(match[2]))

    def render_problem(self, problem: Price) -> str:
        return f"商品原价为 {problem.before} 元，打折后的价格为 {problem.after} 元，请计算打折的折扣比例。"

    def value(self, problem: Price) -> Fraction:
        return Fraction((problem.before - problem.after) * 100, problem.before)

    def render_raw(self, problem: Price) -> str:
        return str((problem.before - problem.after) / problem.before * 100)

    def longhand_steps(self, problem: Price, places: int) -> list[str]:
        taken_off = problem.before - problem.after
        sign, hundredfold = "-" if taken_off < 0 else "", 100 * abs(taken_off)
        return [
            f"{problem.before}-{problem.after}={taken_off}",
            f"{taken_off}*100/{problem.before}={sign}{hundredfold}/{problem.before}",
            *longhand.quotient(hundredfold, problem.before, places + 1),
        ]

    def divisor(self, problem: Price) -> Decimal:
        return Decimal(problem.before)

    def digit_solution(self, problem: Price) -> DigitSolution:
        return procedures.discount(problem.before, problem.after)

    def rule_lines(self, problem: Price, result: str) -> list[str]:
        return rules.discount(problem.before, problem.after, result)

    def sample_any_length(self, generator: random.Random) -> Price:
        return Price(sample_positive(generator, 100), sample_positive(generator, 100))

    def sample(self, generator: random.Random) -> Price:
        return Price(generator.randint(1, 100), generator.randint(1, 100))


class Sales(DigitKind[Growth]):
    """`去年销售额为 12 万元，今年销售额增加了 77%，请计算今年的销售额。` → `21.240000000000002`"""

    name = "sales"
    problem_pattern = re.compile(rf"去年销售额为 ({COUNT}) 万元，今年销售额增加了 ({COUNT})%，请计算今年的销售额。")
    solution_pattern = re.compile(f"({ANSWER})")

    def parse_match(self, match: re.Match[str]) -> Growth | None:
        return Growth(int(match[1]), int(match[2]))

    def render_problem(self, problem: Growth) -> str:
        return f"去年销售额为 {problem.sales} 万元，今年销售额增加了 {problem.percent}%，请计算今年的销售额。"

    def value(self, problem: Growth) -> Fraction:
        return problem.sales + Fraction(problem.sales * problem.percent, 100)

    def render_raw(self, problem: Growth) -> str:
        return str(problem.sales + problem.sales * problem.percent / 100)

    def longhand_steps(self, problem: Growth, places: int) -> list[str]:  # noqa: ARG002
        growth, before = problem.sales * problem.percent, 100 * problem.sales
        return [
            *longhand.product(problem.sales, problem.percent),
            f"{problem.sales}*100={before}",
            f"{before}+{growth}={before + growth}",
            f"{before + growth}/100={longhand.hundredths(before + growth)}",
        ]

    def digit_solution(self, problem: Growth) -> DigitSolution:
        return procedures.sales(problem.sales, problem.percent)

    def rule_lines(self, problem: Growth, result: str) -> list[str]:
        return rules.sales(problem.sales, problem.percent, result)

    def sample_any_length(self, generator: random.Random) -> Growth:
        return Growth(sample_positive(generator, 100), sample_positive(generator, 100))

    def sample(self, generator: random.Random) -> Growth:
        return Growth(generator.randint(1, 100), generator.randint(1, 100))
