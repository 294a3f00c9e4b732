"""Powers and roots: exact values, root precision, and the problems that have no value."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.powers import Function, Monomial, Power, Powered, Radicand, SquareRoot


@given(st.integers(-100_000, 100_000).filter(bool), st.integers(0, 9))
def test_power_is_repeated_multiplication(hundredths: int, exponent: int) -> None:
    product = Fraction(1)
    for _ in range(exponent):
        product *= Fraction(hundredths, 100)
    assert Power().value(Powered(Decimal(hundredths).scaleb(-2), exponent)) == product


@given(st.integers(1, 1_000_000))
def test_root_is_correct_to_60_digits(hundredths: int) -> None:
    value = SquareRoot().value(Radicand(Decimal(hundredths).scaleb(-2)))
    assert value**2 <= Fraction(hundredths, 100) < (value * (1 + Fraction(1, 10**60))) ** 2


@given(st.integers(0, 1000))
def test_root_of_a_square_is_exact(tenths: int) -> None:
    square = Radicand(Decimal(tenths * tenths).scaleb(-2))
    assert SquareRoot().value(square) == Fraction(tenths, 10)


@given(st.integers(1, 1000), st.integers(1, 100), st.integers(1, 100))
def test_raw_function_value_has_28_digits(hundredths: int, coefficient: int, exponent: int) -> None:
    problem = Monomial(Decimal(hundredths).scaleb(-2), coefficient, exponent)
    stated = Function().extract_answer(Function().render_raw(problem))
    assert stated is not None
    exact = Fraction(coefficient * hundredths**exponent, 100**exponent)
    assert Function().value(problem) == exact
    assert abs(Fraction(stated) - exact) <= exact / 10**27
    assert len(Decimal(stated).as_tuple().digits) <= 28


@pytest.mark.parametrize("base", ["0.00", "-0.00"])
def test_zero_to_the_zero_is_rejected(base: str) -> None:
    assert Power().parse(f"计算 {base} 的 0 次方？") is None
    assert Power().parse(f"计算 {base} 的 1 次方？") is not None


@pytest.mark.parametrize("exponent", ["-1", "00", "01", "2.0", "1000", "n", ""])
def test_other_exponents_are_rejected(exponent: str) -> None:
    assert Power().parse("计算 2.00 的 5 次方？") == Powered(Decimal("2.00"), 5)
    assert Power().parse(f"计算 2.00 的 {exponent} 次方？") is None
    assert Function().parse(f"当 x = 2.00 时，求函数 y = 3x^{exponent} 的值") is None


@pytest.mark.parametrize("number", ["-1.00", "-0.00", "4", "4.0", "4.000", "04.00"])
def test_other_radicands_are_rejected(number: str) -> None:
    assert SquareRoot().parse("计算 4.00 的平方根？") is not None
    assert SquareRoot().parse(f"计算 {number} 的平方根？") is None


@pytest.mark.parametrize(
    "text",
    [
        "当 x = -1.00 时，求函数 y = 3x^2 的值",
        "当 x = 1.0 时，求函数 y = 3x^2 的值",
        "当 x = 1 时，求函数 y = 3x^2 的值",
        "当 x = 1.00 时，求函数 y = 0x^2 的值",
        "当 x = 1.00 时，求函数 y = 3x^0 的值",
        "当 x = 1.00 时，求函数 y = x^2 的值",
        "当 x = 1.00 时，求函数 y = 3 x^2 的值",
        "当 x = 1.00 时，求函数 y = 3X^2 的值",
        "当 x = 1.00 时，求函数 y = 3x^2 的值？",
    ],
)
def test_other_functions_are_rejected(text: str) -> None:
    assert Function().parse("当 x = 1.00 时，求函数 y = 3x^2 的值") is not None
    assert Function().parse(text) is None
