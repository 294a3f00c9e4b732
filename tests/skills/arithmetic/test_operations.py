"""The four operations: exact values, and the problems that have none."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.operations import Addition, Division, Multiplication, Operands, Operation, Subtraction

hundredths = st.integers(-1_000_000, 1_000_000)


def operands(left: int, right: int) -> Operands:
    return Operands(Decimal(left).scaleb(-2), Decimal(right).scaleb(-2))


@given(hundredths, hundredths)
def test_values_are_those_of_integer_arithmetic(left: int, right: int) -> None:
    problem = operands(left, right)
    assert Addition().value(problem) == Fraction(left + right, 100)
    assert Subtraction().value(problem) == Fraction(left - right, 100)
    assert Multiplication().value(problem) == Fraction(left * right, 10_000)
    if right:
        assert Division().value(problem) == Fraction(left, right)


@given(hundredths, hundredths)
def test_raw_sums_and_products_are_exact(left: int, right: int) -> None:
    problem = operands(left, right)
    for kind in (Addition(), Subtraction(), Multiplication()):
        stated = kind.extract_answer(kind.render_raw(problem))
        assert stated is not None
        assert Fraction(stated) == kind.value(problem)
        assert len(stated.partition(".")[2]) == (4 if kind.name == "mul" else 2)


@given(hundredths, hundredths)
def test_all_written_values_are_read_back(left: int, right: int) -> None:
    problem = operands(left, right)
    assert Addition().parse(Addition().render_problem(problem)) == problem
    assert Division().parse(Division().render_problem(problem)) == (problem if right else None)


@pytest.mark.parametrize("kind", [Addition(), Subtraction(), Multiplication(), Division()], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "left", ["1", "1.0", "1.000", "1.", ".50", "01.00", "+1.00", "--1.00", "- 1.00", "1,000.00", "1e3", "1234567890.00"]
)
def test_numbers_of_another_form_are_rejected(kind: Operation, left: str) -> None:
    assert kind.parse(f"计算 1.00 {kind.symbol} 2.00 等于多少？") is not None
    assert kind.parse(f"计算 {left} {kind.symbol} 2.00 等于多少？") is None
    assert kind.parse(f"计算 2.00 {kind.symbol} {left} 等于多少？") is None


@pytest.mark.parametrize("divisor", ["0.00", "-0.00"])
def test_division_by_zero_is_rejected(divisor: str) -> None:
    assert Division().parse(f"计算 1.00 / {divisor} 等于多少？") is None


def test_a_zero_keeps_its_sign() -> None:
    text = "计算 -0.00 + 0.00 等于多少？"
    problem = Addition().parse(text)
    assert problem is not None
    assert Addition().render_problem(problem) == text
