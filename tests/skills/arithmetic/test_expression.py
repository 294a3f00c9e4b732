"""Written expressions have the value that Python gives them with exact fractions, and what Python cannot read is
refused."""

import re
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.expression import evaluate, ratio, same

NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:E[+-][0-9]+)?")
NUMBERS = st.one_of(
    st.integers(0, 10**9).map(str),
    st.decimals(0, 10**6, places=2).map("{:f}".format),
    st.builds("{}E{:+d}".format, st.sampled_from(["1", "2.50", "0.075"]), st.integers(-40, 40)),
)


def python_s(expression: str) -> Fraction:
    """The value that Python computes. errors: SyntaxError, TypeError, ZeroDivisionError."""
    value = eval(NUMBER.sub(r"Fraction('\g<0>')", expression), {"Fraction": Fraction})
    if not isinstance(value, Fraction):
        raise TypeError("no number")
    return value


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operation = st.builds("{}{}{}".format, inner, st.sampled_from("+-*/"), inner)
    return st.one_of(operation, inner.map("({})".format), inner.map("-{}".format))


@given(st.recursive(NUMBERS, grown, max_leaves=12))
@example("7*5+0")
@example("3963.85*-5055.68")
@example("1-2-3")
@example("2/3/4*5")
@example("-(1-2)*--3")
def test_values_are_python_s(expression: str) -> None:
    try:
        expected = python_s(expression)
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            evaluate(expression)
        return
    assert evaluate(expression) == expected
    assert same(ratio(expression), expected.as_integer_ratio())
    assert not same(ratio(expression), (expected + 1).as_integer_ratio())


@given(st.lists(st.sampled_from(["0", "1", "05", "2.5", "1E+2", *"+-*/()"]), max_size=9).map("".join))
def test_invalid_expressions_are_refused(expression: str) -> None:
    # Python also knows these: ** and //, and a plus sign before a number.
    assume(not re.search(r"\*\*|//|(?:^|[-+*/(])\+", expression))
    # Two numbers side by side are one to us, and not always one to Python.
    assume(not re.search(r"[.E][0-9+-]*[.E]", expression))
    # Python would write out 1E+205050505.
    assume(not re.search(r"E\+[0-9]{4}", expression))
    try:
        expected = python_s(expression)
    except (SyntaxError, TypeError, ZeroDivisionError):
        with pytest.raises((ValueError, ZeroDivisionError)):
            evaluate(expression)
        return
    assert evaluate(expression) == expected


@pytest.mark.parametrize("text", ["", " ", "1 + 1", "1.", ".5", "x", "٣", "²", "1e5", "1,000", "1_000", "2^3"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="arithmetic expression"):
        evaluate(text)
