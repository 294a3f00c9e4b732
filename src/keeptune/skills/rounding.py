"""How an exact answer is written as text: rounded, and in one spelling only.

A model can learn to write `0.87`, but not the 28 digits of the data set; and a text that is spelled in one way only
is easier to learn than one that is `0.5`, `0.50` and `.5` by turns.
"""

from __future__ import annotations

from fractions import Fraction

from keeptune.config.solution_format import HalfRounding, Rounding

LARGEST_PLAIN_EXPONENT = 15
"""From 10^16 on a number is written with an exponent: nobody learns to write a hundred digits."""

SMALLEST_PLAIN_EXPONENT = -4
"""Where significant digits are asked for, a number below 10^-4 is written with an exponent. Where decimals are, the
numbers are that would be 0 without."""

SIGNIFICANT_DIGITS = 6
"""Digits of a number with an exponent, where decimals are asked for; two more than the headline grader asks for."""


def rounded(value: Fraction, rounding: Rounding) -> str:
    """The number rounded as declared, without trailing zeros after the point.

    `2.5`, `-1784.1`, `0`; never `-0`. Significant digits round integers too: with four, 1234567 is `1235000`. Numbers
    that have no good plain form get an exponent: `2.85416E+85`, `2E-3`.
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    place = last_place(value, rounding)
    units = _nearest(*_over(abs(value), place), rounding.halves)
    exponent = len(str(units)) - 1 + place
    return sign + (_plain(units, place) if _is_plain(exponent, rounding) else _scientific(units, exponent))


def is_rounded(answer: Fraction, value: Fraction, rounding: Rounding) -> bool:
    """Whether a number is another one, rounded as declared: judged by their distance, not by rounding once more."""
    if value == 0:
        return answer == 0
    place = last_place(value, rounding)
    written, written_below = _over(answer, place)
    exact, exact_below = _over(value, place)
    units, rest = divmod(written, written_below)
    if rest:
        return False
    doubled = 2 * abs(units * exact_below - exact)
    if doubled == exact_below:
        return abs(answer) > abs(value) if rounding.halves == "up" else units % 2 == 0
    return doubled < exact_below


def places_of(value: Fraction, rounding: Rounding) -> int:
    """How many decimals the rounded number has, zeros at their end included: as many as its steps must show."""
    return max(0, -last_place(value, rounding))


def last_place(value: Fraction, rounding: Rounding) -> int:
    """The power of ten that the last digit stands for which rounding keeps: -2 for hundredths, 3 for thousands."""
    if value == 0:
        return 0 if rounding.digits is not None else -rounding.places
    exponent = leading_place(value)
    if rounding.digits is not None:
        return exponent - rounding.digits + 1
    return -rounding.places if _is_plain(exponent, rounding) else exponent - SIGNIFICANT_DIGITS + 1


def leading_place(value: Fraction) -> int:
    """The power of ten that the first digit of a number other than 0 stands for."""
    top, bottom = abs(value.numerator), value.denominator
    # The estimate from the bits is off by at most one either way: log10(2) is 0.30103 and lengths are whole bits.
    exponent = (top.bit_length() - bottom.bit_length()) * 30103 // 100000
    while _reaches(top, bottom, exponent + 1):
        exponent += 1
    while not _reaches(top, bottom, exponent):
        exponent -= 1
    return exponent


def _reaches(top: int, bottom: int, exponent: int) -> bool:
    """Whether top / bottom is at least 10^exponent."""
    power: int = 10 ** abs(exponent)
    return top >= bottom * power if exponent >= 0 else top * power >= bottom


def _is_plain(exponent: int, rounding: Rounding) -> bool:
    smallest = -rounding.places if rounding.digits is None else SMALLEST_PLAIN_EXPONENT
    return smallest <= exponent <= LARGEST_PLAIN_EXPONENT


def _over(value: Fraction, place: int) -> tuple[int, int]:
    """Numerator and denominator of value / 10^place."""
    top, bottom = value.as_integer_ratio()
    return (top, bottom * 10**place) if place >= 0 else (top * 10**-place, bottom)


def _nearest(top: int, bottom: int, halves: HalfRounding) -> int:
    """The integer nearest to a number that is not negative."""
    units, rest = divmod(top, bottom)
    if 2 * rest == bottom:
        return units + 1 if halves == "up" else units + units % 2
    return units + (2 * rest > bottom)


def _plain(units: int, place: int) -> str:
    """units · 10^place as a decimal number."""
    if place >= 0:
        return str(units * 10**place)
    digits = str(units).zfill(1 - place)
    whole, decimals = digits[:place], digits[place:].rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def _scientific(units: int, exponent: int) -> str:
    """The digits of `units` behind the first one as decimals, and the exponent."""
    return f"{_plain(units, 1 - len(str(units)))}E{exponent:+d}"
