"""Work digit by digit: its layout, and that it is right for every problem of every kind."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skill.arithmetic.digits import check, procedures
from keeptune.skill.arithmetic.digits.procedures import Worked
from keeptune.skill.arithmetic.kinds import KINDS, find
from keeptune.skill.base import Question
from keeptune.skill.arithmetic.skill import Arithmetic

SKILL = Arithmetic()
WORKED = tuple(kind for kind in KINDS if kind.name not in {"mass", "fraction", "function"})
"""The kinds that have a procedure by digits; the others have short steps already."""

MANY = 100_000


def question(text: str) -> Question:
    read = SKILL.read(text, "")
    assert read is not None
    return read


def written(text: str) -> str:
    found = find(text)
    assert found is not None
    return found[0].by_digits(found[1])


def fault(text: str, solution: str) -> str | None:
    truth = question(text).truth
    assert not isinstance(truth, str)
    return check.fault(solution, text, truth)


def lines(worked: Worked) -> list[str]:
    return [*worked.lines, worked.answer]


def test_a_sum_in_columns() -> None:
    assert lines(procedures.addition(Decimal("7860.75"), Decimal("12.05"))) == [
        "+++",
        "a7007b8008c6107d0202e7007f5510",
        "f10e08d02c07b08a07",
        "7872.80",
    ]


def test_a_difference_below_zero_is_taken_from_the_next_power_of_ten() -> None:
    assert lines(procedures.addition(Decimal("-0.04"), Decimal("5.84"))) == [
        "-+-",
        "a0000b0000c0000d0515e0812f4400",
        "f00e12d14c19b19a19",
        "f0e8d5c0b0a0",
        "5.80",
    ]


def test_a_product_line_by_line() -> None:
    assert lines(procedures.area(54, 34)) == [
        "a5b4",
        "y3z4",
        "z4b41616016a52021021",
        "y3b41212113a51516218",
        "1836",
    ]


def test_a_quotient_and_one_digit_too_many() -> None:
    assert lines(procedures.division(Decimal("-375.24"), Decimal("5369.80")))[:5] == [
        "-+-",
        "a35b73c56d29e48",
        "3-4=-1",
        "0e4d2c5b7a3",
        "7e85656064d96369475c64249253b32126539a53538749",
    ]


def test_a_mean_adds_tens_and_ones_apart() -> None:
    assert lines(procedures.mean((59, 33, 63)))[:3] == ["59:5,9 33:8,12 63:14,15", "14+1=15", "155"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("计算 0.00 * -5.00 等于多少？", "0"),
        ("计算 0.00 / -5.00 等于多少？", "0"),
        ("计算 5.00 + -5.00 等于多少？", "0.00"),
        ("计算 5.00 / 7.00 等于多少？", "0.714"),
        ("计算 0.01 / 9999.99 等于多少？", "0.00000"),
        ("计算 -12.50 的 0 次方？", "1"),
        ("计算 -12.50 的 1 次方？", "-12.50"),
        ("计算 0.00 的 3 次方？", "0"),
        ("计算 183.94 的 5 次方？", "2.105595E+11"),
        ("计算 0.00 的平方根？", "0"),
        ("计算 10000.00 的平方根？", "100"),
        ("计算 5636.97 的平方根？", "75.079"),
        ("解方程 -6x + 0 = 0", "0"),
        ("解方程 1x + -100 = 0", "100.000"),
        ("商品原价为 16 元，打折后的价格为 90 元，请计算打折的折扣比例。", "-462.500"),
        ("去年销售额为 12 万元，今年销售额增加了 77%，请计算今年的销售额。", "21.24"),
    ],
)
def test_answers_at_the_edges(text: str, answer: str) -> None:
    solution = written(text)
    assert solution.endswith(f"#### {answer}")
    assert fault(text, solution) is None


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.booleans())
def test_every_line_and_every_answer_holds(kind: object, seed: int, any_size: bool) -> None:
    generator = random.Random(seed)
    problem = kind.random_size(generator) if any_size else kind.random(generator)  # type: ignore[attr-defined]
    text = kind.write(problem)  # type: ignore[attr-defined]
    assert fault(text, written(text)) is None


amounts = st.integers(-(10**11), 10**11).map(lambda units: f"{Decimal(units).scaleb(-2):.2f}")


@given(amounts, amounts, st.sampled_from("+-*/"))
def test_numbers_longer_than_the_data_set_has(left: str, right: str, operation: str) -> None:
    text = f"计算 {left} {operation} {right} 等于多少？"
    if SKILL.read(text, "") is not None:
        assert fault(text, written(text)) is None


@given(amounts, st.integers(0, 200))
def test_powers_beyond_the_data_set(base: str, exponent: int) -> None:
    text = f"计算 {base} 的 {exponent} 次方？"
    if SKILL.read(text, "") is not None:
        assert fault(text, written(text)) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORKED, ids=lambda kind: kind.name)
def test_a_hundred_thousand_problems_of_each_kind(kind: object) -> None:
    generator = random.Random(2026)
    for _ in range(MANY):
        text = kind.write(kind.random(generator))  # type: ignore[attr-defined]
        assert fault(text, written(text)) is None, text
