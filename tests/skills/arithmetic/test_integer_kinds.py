"""The kinds whose problems hold integers only: equation, mean, area, mass, discount, sales, fraction."""

import math
import random
from collections import Counter
from fractions import Fraction

import pytest

from keeptune.skills.arithmetic.equation import Equation, Line
from keeptune.skills.arithmetic.fraction import Ratio, Simplification
from keeptune.skills.arithmetic.kinds import find_kind
from keeptune.skills.arithmetic.mean import Mean, Numbers
from keeptune.skills.arithmetic.measures import Mass
from keeptune.skills.arithmetic.money import Discount, Growth, Price, Sales


def test_every_equation_of_the_data_set_holds_at_its_value() -> None:
    for slope in range(-100, 101):
        for intercept in range(-100, 101, 7):
            if slope:
                assert slope * Equation().value(Line(slope, intercept)) + intercept == 0


def test_every_price_comes_back_from_its_discount() -> None:
    for before in range(1, 101):
        for after in range(1, 101, 3):
            assert before * (1 - Discount().value(Price(before, after)) / 100) == after


def test_the_mean_times_the_count_is_the_sum() -> None:
    numbers = Numbers((73, 2, 6, 36, 59, 66, 25))
    assert Mean().value(numbers) * 7 == 73 + 2 + 6 + 36 + 59 + 66 + 25


def test_sales_grow_by_the_percentage() -> None:
    assert Sales().value(Growth(12, 77)) == Fraction("21.24")


def test_every_fraction_of_the_data_set_is_written_in_lowest_terms() -> None:
    for denominator in range(2, 11):
        for numerator in range(1, denominator):
            solution = Simplification().render_raw(Ratio(numerator, denominator))
            top, bottom = map(int, solution.removeprefix("最简化的形式为：").split("/"))
            assert top * denominator == bottom * numerator
            assert math.gcd(top, bottom) == 1


def test_small_spaces_are_drawn_evenly_and_whole() -> None:
    generator = random.Random(5)
    fractions = Counter(Simplification().sample(generator) for _ in range(45 * 100))
    masses = Counter(Mass().sample(generator) for _ in range(100 * 100))
    assert len(fractions) == 45
    assert len(masses) == 100
    assert all(50 < count < 150 for count in (*fractions.values(), *masses.values()))


def test_lists_have_three_to_ten_numbers_in_even_shares() -> None:
    generator = random.Random(5)
    lengths = Counter(len(Mean().sample(generator).values) for _ in range(8000))
    assert sorted(lengths) == list(range(3, 11))
    assert all(850 < count < 1150 for count in lengths.values())


@pytest.mark.parametrize(
    "text",
    [
        "解方程 0x + 3 = 0",
        "解方程 -0x + 3 = 0",
        "解方程 x + 3 = 0",
        "解方程 2x + -0 = 0",
        "解方程 2x - 3 = 0",
        "解方程 2x + 03 = 0",
        "解方程 2x + 3 = 1",
        "解方程 2x + 3.0 = 0",
        "解方程 2x+3=0",
        "解方程 2x + 3 = 0？",
        "求以下数据的平均值：[]",
        "求以下数据的平均值：[1,2,3]",
        "求以下数据的平均值：[1, 2, ]",
        "求以下数据的平均值：[1, 2.5, 3]",
        "求以下数据的平均值：[1, 02, 3]",
        "求以下数据的平均值：1, 2, 3",
        "一个长方形的长为 0 厘米，宽为 4 厘米，请计算其面积。",
        "一个长方形的长为 8.5 厘米，宽为 4 厘米，请计算其面积。",
        "一个长方形的长为 8 厘米，宽为 4 米，请计算其面积。",
        "某物体的密度为 -1 克/立方厘米，体积为 3 立方厘米，请计算该物体的质量。",
        "商品原价为 0 元，打折后的价格为 3 元，请计算打折的折扣比例。",
        "商品原价为 5 元，打折后的价格为 3.00 元，请计算打折的折扣比例。",
        "去年销售额为 50 万元，今年销售额增加了 9，请计算今年的销售额。",
        "去年销售额为 50 万元，今年销售额减少了 9%，请计算今年的销售额。",
        "将分数 1/0 进行简化。",
        "将分数 0/5 进行简化。",
        "将分数 4/2 进行简化。",
        "将分数 3/3 进行简化。",
        "将分数 -1/3 进行简化。",
        "将分数 1 / 3 进行简化。",
    ],
)
def test_near_misses_are_rejected(text: str) -> None:
    assert find_kind(text) is None
