"""Proven equations are true in any markup, and equations that cannot be read are never proven."""

from fractions import Fraction

import pytest
from cpu_time import bounded_work
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding
from keeptune.data.teacher.equations import Proof, evaluate_expression, prove
from keeptune.skills.rounding import format_rounded

NUMBERS = st.decimals(min_value=0, max_value=9999, places=2).map(lambda number: f"{number}")
OPERATORS = st.sampled_from("+-*/")


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Generates numbers joined by operators, partly in brackets."""
    text = draw(NUMBERS)
    for _ in range(draw(st.integers(1, 3))):
        text = f"{text} {draw(OPERATORS)} {draw(NUMBERS)}"
        if draw(st.booleans()):
            text = f"({text})"
    return text


def oracle(expression: str) -> Fraction | None:
    """Returns the value according to Python's parser."""
    quoted = "".join(f"Fraction('{part}')" if part[0].isdigit() else part for part in _parts(expression))
    try:
        value = eval(quoted, {"Fraction": Fraction})
    except ZeroDivisionError:
        return None
    assert isinstance(value, Fraction)
    return value


def _parts(expression: str) -> list[str]:
    spaced = expression
    for bracket in "()":
        spaced = spaced.replace(bracket, f" {bracket} ")
    return spaced.split()


def fault(text: str, unknown: Fraction | None = None, problem: str = "") -> str | None:
    proof = prove(text, problem, unknown)
    return "false" if proof.false_equation else "unreadable" if proof.unreadable_equation else None


@given(expressions())
def test_values_equal_those_of_python(expression: str) -> None:
    assert evaluate_expression(expression) == oracle(expression)


@given(expressions(), st.integers(-300, 300))
def test_a_result_is_proven_if_and_only_if_it_is_the_rounded_value(expression: str, off_by_hundredths: int) -> None:
    value = oracle(expression)
    if value is None or abs(value) > 10**12:
        return
    stated = Fraction(format_rounded(value, Rounding(2))) + Fraction(off_by_hundredths, 100)
    right = abs(stated - value) <= Fraction(1, 200)
    text = f"So it is {expression} = {float(stated):.2f}"
    assert fault(text) == (None if right else "false")


@pytest.mark.parametrize(
    "text",
    [
        "87 厘米 × 45 厘米 = 3915 平方厘米",
        "面积 = 长 × 宽 = 87 × 45 = 3915 平方厘米。",
        "5 apples + 3 pears = 8 pieces",
        "So the total is $5 + $4 = $9.",
        "Tom's sister has a total of 12 + 24 = 36 pages",
        r"\[ \frac{1}{2} + \frac{1}{3} = \frac{5}{6} \]",
        r"**5 \times 3 = 15**",
        "1,000 + 1 = 1,001",
        "3 x 4 = 12",
        "20% * 50 = 10",
        "5/20 = 25%",
        "12 + 77% * 12\n= 12 + 9.24\n= 21.24",
        "10/3 ≈ 3.33",
        "-38 / 14 * 100 = -2.7143 * 100 = -271.43",
        "10/3 = 3.3333",
        "2**3 = 8",
        "(-2)^2 = 4",
        "√10.00 ≈ 3.1623",
        "sqrt(2 + 2) = 2",
        "68*7.59^95 ≈ 2.85416E+85",
        "2(3+4) = 14",
        "- 5 + 3 = 8",
        "1. 5 + 3 = 8",
        "２ ＋ ３ ＝ ５",
    ],
)
def test_many_notations_are_read(text: str) -> None:
    proof = prove(text, "", None)
    assert (proof.false_equation, proof.unreadable_equation) == (None, None)
    assert proof.proven_count > 0


@pytest.mark.parametrize(
    "text",
    [
        "87 厘米 × 45 厘米 = 3916 平方厘米",
        "2^3 = 9",
        "1,000 + 1 = 1,002",
        "5 + 3 = eight = 9",
        "4 + 5 = 9 + 1 = 10",
        "10/3 = 3.3",
        "-38 / 14 * 100 = -2.71 * 100",
        "10/3 = 3.331",
        "1 = 1 = 2",
        "12 * 4 = 48\n48 + 1 = 48",
        "(60-24)/60*100 = 60%",
    ],
)
def test_false_equations_are_found(text: str) -> None:
    assert fault(text) == "false"


@pytest.mark.parametrize(
    "text",
    [
        "half of 10 = 10",
        "a third of 10 = 10",
        "20% of 10 = 10",
        "the square of 10 = 10",
        "7 + 1 = 8 of 9",
        "12 的平方 = 12",
        "负 5 + 3 = 8",
        "5 groups of 3 = 15",
        "5 plus 3 = 9",
        "-2^2 = 4",
        "3 * y + 2z = 4",
        "5 + = 5",
        "1/0 = 1",
        "√-4 = 2",
        "1E+99999999 = 1",
        "((2^128)^128)^128 = 1",
        "(" * 400 + "1 = 1",
        "0." + "1" * 500 + " = 0",
    ],
)
def test_unreadable_equations_are_not_proven(text: str) -> None:
    assert fault(text) == "unreadable"


def test_an_unknown_is_replaced_by_its_value() -> None:
    problem, root = "解方程 -81x + -45 = 0", Fraction(-45, 81)
    assert fault(f"{problem}\n-81x = 45\nx = 45 / -81\nx ≈ -0.5556", root, problem) is None
    assert fault("-81x = -45", root, problem) == "false"
    assert fault("1x + -45 = 0", root, problem) == "false"  # The end of the problem's equation is another equation.
    assert fault("-81x = 45", None, problem) == "unreadable"
    assert fault("x + 5 = 1", Fraction(7), "解方程 x + 5 = 12") == "false"  # The prefix of a number is another number.


def test_text_without_equations_has_an_empty_proof() -> None:
    assert prove("area = length × width. The total of 5 and 3 is 9.", "", None) == Proof(0)


@pytest.mark.parametrize("unit", ["9", "(", "a ", "9 ", "\\frac{", "**", "=9", "9,", "√(", "^2", "苹", "- "])
def test_adversarial_texts_are_checked_fast(unit: str) -> None:
    with bounded_work():
        prove((unit * 20_000)[:20_000] + " = 1", "", Fraction(1))
        prove("1 = " + (unit * 20_000)[:20_000], "", Fraction(1))
