"""Rounded answers: decimals, digits and halves against Python's decimal module, one spelling, and the grader."""

import re
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keeptune.config.solution_format import HalfRounding, Rounding
from keeptune.grading.number import grade
from keeptune.skills.rounding import decimal_places, format_rounded, is_rounded, last_place, leading_place
from keeptune.skills.rounding_policy import is_coarser_than_headline

DECIMALS = st.decimals(min_value=-(10**15), max_value=10**15, places=6)
HALVES = st.builds(lambda units, place: Decimal(units).scaleb(place), st.integers(-(10**6), 10**6), st.integers(-6, 0))
HALVES_RULE: st.SearchStrategy[HalfRounding] = st.sampled_from(["up", "even"])
MODES = {"up": ROUND_HALF_UP, "even": ROUND_HALF_EVEN}
ROUNDINGS = st.builds(Rounding, st.integers(0, 20), st.none() | st.integers(1, 20), HALVES_RULE)
VALUES = st.fractions() | (DECIMALS | HALVES).map(Fraction)
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
    assert format_rounded(Fraction(value), Rounding(places)) == text


@pytest.mark.parametrize(
    ("value", "rounding", "text"),
    [
        ("1234567", Rounding(digits=4), "1235000"),
        ("1234567", Rounding(digits=7), "1234567"),
        ("0.000123456", Rounding(digits=4), "0.0001235"),
        ("0.0000123456", Rounding(digits=4), "1.235E-5"),
        ("99996", Rounding(digits=4), "100000"),
        ("9.9996", Rounding(digits=4), "10"),
        ("9999999999999999.9", Rounding(digits=3), "1E+16"),
        ("9999999999999999.9", Rounding(places=0), "1E+16"),
        ("0.0099999999", Rounding(places=2), "0.01"),
        ("2.854155E+85", Rounding(digits=3), "2.85E+85"),
        ("-0.666", Rounding(places=0, digits=2), "-0.67"),
        ("0", Rounding(digits=3), "0"),
        ("0.125", Rounding(halves="even"), "0.12"),
        ("0.135", Rounding(halves="even"), "0.14"),
        ("-0.125", Rounding(halves="even"), "-0.12"),
        ("2.5", Rounding(0, halves="even"), "2"),
        ("12.5", Rounding(digits=2, halves="even"), "12"),
        ("12.5", Rounding(digits=2), "13"),
        ("12.500001", Rounding(digits=2, halves="even"), "13"),
    ],
)
def test_digits_and_halves(value: str, rounding: Rounding, text: str) -> None:
    assert format_rounded(Fraction(value), rounding) == text


@given(DECIMALS | HALVES, st.integers(0, 5), HALVES_RULE)
def test_plain_numbers_are_what_decimal_rounds(number: Decimal, places: int, halves: HalfRounding) -> None:
    text = format_rounded(Fraction(number), Rounding(places, halves=halves))
    if "E" in text:
        assert 0 < abs(number) < Decimal(10) ** -places
    else:
        assert Decimal(text) == number.quantize(Decimal(1).scaleb(-places), MODES[halves], Context(prec=40))


@given(DECIMALS | HALVES, st.integers(-300, 300), st.integers(1, 20), HALVES_RULE)
def test_significant_digits_are_what_decimal_rounds(
    number: Decimal, exponent: int, digits: int, halves: HalfRounding
) -> None:
    scaled = number.scaleb(exponent)
    text = format_rounded(Fraction(scaled), Rounding(digits=digits, halves=halves))
    assert Decimal(text) == Context(prec=digits, rounding=MODES[halves]).plus(scaled)


@given(VALUES, st.integers(-300, 300), ROUNDINGS)
def test_one_spelling_and_sign(base: Fraction, exponent: int, rounding: Rounding) -> None:
    value = base * Fraction(10) ** exponent
    text = format_rounded(value, rounding)
    assert SPELLING.fullmatch(text)
    assert text.startswith("-") == (value < 0)
    assert format_rounded(-value, rounding) == (text[1:] if value < 0 else f"-{text}" if value else "0")
    assert format_rounded(Fraction(text), rounding) == text


@given(VALUES, st.integers(-30, 30), ROUNDINGS, st.integers(-2, 2))
def test_only_the_rounded_number_is_recognized(base: Fraction, exponent: int, rounding: Rounding, units: int) -> None:
    value = base * Fraction(10) ** exponent
    nearest = Fraction(format_rounded(value, rounding))
    place = last_place(value, rounding)
    answer = nearest + units * Fraction(10) ** place
    assert is_rounded(answer, value, rounding) == (answer == nearest)
    assert not is_rounded(nearest + Fraction(10) ** (place - 1), value, rounding)


@given(VALUES, st.integers(-30, 30), ROUNDINGS)
def test_so_many_decimals_are_written(base: Fraction, exponent: int, rounding: Rounding) -> None:
    value = base * Fraction(10) ** exponent
    written = Fraction(format_rounded(value, rounding)) * 10 ** decimal_places(value, rounding)
    assert written.denominator == 1
    if value and rounding.digits is not None:
        assert abs(written) <= 10 ** max(rounding.digits, leading_place(value) + 2)


@given(VALUES, st.integers(-300, 300), ROUNDINGS)
def test_the_headline_grader_accepts_two_decimals_or_five_digits(
    base: Fraction, exponent: int, rounding: Rounding
) -> None:
    assume(rounding.places >= 2 if rounding.digits is None else rounding.digits >= 5)
    value = base * Fraction(10) ** exponent
    assert grade(f"#### {format_rounded(value, rounding)}", value).correct
    assert not is_coarser_than_headline(value, rounding)
