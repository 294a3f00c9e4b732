"""Percentages of money: a discount (`商品原价为 …`) and a growth of sales (`去年销售额为 …`).

Both solutions are a bare number without a unit. The order of the float operations is the data set's; another
order would give other last digits.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from keeptune.skills.arithmetic import longhand, rules
from keeptune.skills.arithmetic.digits import procedures
from keeptune.skills.arithmetic.digits.procedures import Worked
from keeptune.skills.arithmetic.kind import ANSWER, COUNT, KindByDigits, KindByQuotient, any_size


@dataclass(frozen=True, slots=True)
class Price:
    """A price before and after the discount, in yuan; it may have gone up."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Last year's sales, in units of 10,000 yuan, and by how many percent they grew."""

    sales: int
    percent: int


class Discount(KindByQuotient[Price]):
    """`商品原价为 60 元，打折后的价格为 24 元，请计算打折的折扣比例。` → `60.0`: the percentage taken off."""

    name = "discount"
    problem_pattern = re.compile(rf"商品原价为 ({COUNT}) 元，打折后的价格为 ({COUNT}) 元，请计算打折的折扣比例。")
    solution_pattern = re.compile(f"({ANSWER})")

    def read(self, match: re.Match[str]) -> Price | None:
        return Price(int(match[1]), int(match[2]))

    def write(self, problem: Price) -> str:
        return f"商品原价为 {problem.before} 元，打折后的价格为 {problem.after} 元，请计算打折的折扣比例。"

    def value(self, problem: Price) -> Fraction:
        return Fraction((problem.before - problem.after) * 100, problem.before)

    def raw_solution(self, problem: Price) -> str:
        return str((problem.before - problem.after) / problem.before * 100)

    def steps(self, problem: Price, places: int) -> list[str]:
        taken_off = problem.before - problem.after
        sign, hundredfold = "-" if taken_off < 0 else "", 100 * abs(taken_off)
        return [
            f"{problem.before}-{problem.after}={taken_off}",
            f"{taken_off}*100/{problem.before}={sign}{hundredfold}/{problem.before}",
            *longhand.quotient(hundredfold, problem.before, places + 1),
        ]

    def divisor(self, problem: Price) -> Decimal:
        return Decimal(problem.before)

    def worked(self, problem: Price) -> Worked:
        return procedures.discount(problem.before, problem.after)

    def rule(self, problem: Price, result: str) -> list[str]:
        return rules.discount(problem.before, problem.after, result)

    def random_size(self, generator: random.Random) -> Price:
        return Price(any_size(generator, 100), any_size(generator, 100))

    def random(self, generator: random.Random) -> Price:
        return Price(generator.randint(1, 100), generator.randint(1, 100))


class Sales(KindByDigits[Growth]):
    """`去年销售额为 12 万元，今年销售额增加了 77%，请计算今年的销售额。` → `21.240000000000002`"""

    name = "sales"
    problem_pattern = re.compile(rf"去年销售额为 ({COUNT}) 万元，今年销售额增加了 ({COUNT})%，请计算今年的销售额。")
    solution_pattern = re.compile(f"({ANSWER})")

    def read(self, match: re.Match[str]) -> Growth | None:
        return Growth(int(match[1]), int(match[2]))

    def write(self, problem: Growth) -> str:
        return f"去年销售额为 {problem.sales} 万元，今年销售额增加了 {problem.percent}%，请计算今年的销售额。"

    def value(self, problem: Growth) -> Fraction:
        return problem.sales + Fraction(problem.sales * problem.percent, 100)

    def raw_solution(self, problem: Growth) -> str:
        return str(problem.sales + problem.sales * problem.percent / 100)

    def steps(self, problem: Growth, places: int) -> list[str]:  # noqa: ARG002
        growth, before = problem.sales * problem.percent, 100 * problem.sales
        return [
            *longhand.product(problem.sales, problem.percent),
            f"{problem.sales}*100={before}",
            f"{before}+{growth}={before + growth}",
            f"{before + growth}/100={longhand.hundredths(before + growth)}",
        ]

    def worked(self, problem: Growth) -> Worked:
        return procedures.sales(problem.sales, problem.percent)

    def rule(self, problem: Growth, result: str) -> list[str]:
        return rules.sales(problem.sales, problem.percent, result)

    def random_size(self, generator: random.Random) -> Growth:
        return Growth(any_size(generator, 100), any_size(generator, 100))

    def random(self, generator: random.Random) -> Growth:
        return Growth(generator.randint(1, 100), generator.randint(1, 100))
