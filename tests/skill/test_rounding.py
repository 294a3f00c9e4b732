"""Rounded answers: half away from zero against Python's decimal module, one spelling, accepted by the grader."""

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.score.number import grade
from keeptune.skill.rounding import rounded

DECIMALS = st.decimals(min_value=-(10**15), max_value=10**15, places=6)
SPELLING = re.compile(r"0|-?(?:[1-9][0-9]*|0)(?:\.[0-9]*[1-9])?|-?[1-9](?:\.[0-9]*[1-9])?E[+-][1-9][0-9]*")


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        ("0", 2, "0"),
        ("1/8", 2, "0.13"),
        ("-1/8", 2, "-0.13"),
        ("5/2", 0, "3"),
        ("-5/2", 0, "-3"),
        ("12.30", 2, "12.3"),
        ("100", 2, "100"),
        ("1999/200", 2, "10"),
        ("1/100", 2, "0.01"),
        ("99999/10000000", 2, "9.9999E-3"),
        ("-1/300", 2, "-3.33333E-3"),
        ("9.9999999E-5", 2, "1E-4"),
        ("9999999999999999", 2, "9999999999999999"),
        ("10000000000000000", 2, "1E+16"),
        ("99999999999999999", 2, "1E+17"),
        ("-2.854155448324274205322988364E+85", 2, "-2.85416E+85"),
        ("1/3", 20, "0.33333333333333333333"),
        ("2/3", 0, "6.66667E-1"),
    ],
)
def test_known_values(value: str, places: int, text: str) -> None:
    assert rounded(Fraction(value), places) == text


@given(DECIMALS, st.integers(0, 5))
def test_plain_numbers_are_what_decimal_rounds_half_up(number: Decimal, places: int) -> None:
    text = rounded(Fraction(number), places)
    if "E" in text:
        assert 0 < abs(number) < Decimal(10) ** -places
    else:
        exact = number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=40))
        assert Decimal(text) == exact


@given(st.fractions() | DECIMALS.map(Fraction), st.integers(-300, 300), st.integers(0, 20))
def test_one_spelling_and_sign(base: Fraction, exponent: int, places: int) -> None:
    value = base * Fraction(10) ** exponent
    text = rounded(value, places)
    assert SPELLING.fullmatch(text)
    assert text.startswith("-") == (value < 0)
    assert rounded(-value, places) == (text[1:] if value < 0 else f"-{text}" if value else "0")
    assert rounded(Fraction(text), places) == text


@given(st.fractions() | DECIMALS.map(Fraction), st.integers(-300, 300), st.integers(2, 20))
def test_the_headline_grader_accepts_it(base: Fraction, exponent: int, places: int) -> None:
    value = base * Fraction(10) ** exponent
    assert grade(f"#### {rounded(value, places)}", value).correct
