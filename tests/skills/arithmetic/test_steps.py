"""Only equations that are surely arithmetic and surely false are called so."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.steps import evaluate_or_none, find_false_step


@pytest.mark.parametrize(
    "solution",
    [
        "-3732.46 / -8153.87 = 3732.46 / 8153.87 = 0.46",
        "= (71 - 63) / 71 * 100\n= 8 / 71 * 100\n= 0.1127 * 100\n= 11.27",
        "方程为 55x = 55.0，因此 x = 55.0 / 55  = 1.0。方程的解为：1.0",
        "23 + 32 + 61 + 40 + 47 + 40 = 243\n243 / 6 = 40.5\n平均值为: 40.5",
        "6 * 7 = 42\n42 克",
        "x^2 = 4, so x = 2",
        "77% = 0.77",
        "1,234 + 1 = 1,235",
        "1 / 0 = 5",
        "2 3 = 5",
        "√25 = 5",
        "3 × 4 ≈ 12",
        "100/3 ≈ 33.3",
        "2/3 ≈ 0.7, 2/3 ≈ 0.667",
        "1 + 1 = 2; 2 + 2 = 4",
        "",
        "= = =",
        "(" * 100 + " = 1",
        "-" * 100 + "1 = 1",
    ],
)
def test_what_holds_or_cannot_be_read_is_no_fault(solution: str) -> None:
    assert find_false_step(solution) is None


@pytest.mark.parametrize(
    ("solution", "step"),
    [
        ("= 50 * 1.9 = 54.5", "50 * 1.9 = 54.5"),
        ("= 48 * 1.100 = 96.0", "48 * 1.100 = 96.0"),
        ("= (71 - 63) / 71\n= 11.27", "(71 - 63) / 71 = 11.27"),
        ("6 × 7 = 43\n43 克", "6 × 7 = 43"),
        ("9 ÷ 2 ≈ 4.4", "9 ÷ 2 = 4.4"),
        ("100/3 ≈ 33.4", "100/3 = 33.4"),
        ("100/3 = 33.3", "100/3 = 33.3"),
        ("质量为 2 * -3 = 6", "2 * -3 = 6"),
    ],
)
def test_false_statements_are_named(solution: str, step: str) -> None:
    assert find_false_step(solution) == step


def operation(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)


@given(st.recursive(st.integers(0, 999).map(str), operation, max_leaves=8))
def test_values_are_python_s(expression: str) -> None:
    try:
        expected = eval(re.sub("[0-9]+", r"Fraction(\g<0>)", expression), {"Fraction": Fraction})
    except ZeroDivisionError:
        assert evaluate_or_none(expression) is None
        return
    assert evaluate_or_none(expression) == expected


@given(st.text("0123456789.+-*/×÷() =≈\nx，,;", max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    find_false_step(text)
