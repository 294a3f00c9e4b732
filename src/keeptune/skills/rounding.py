"""Rounding of exact answers to text with exactly one spelling per number.

A model can learn to write `0.87`, but not the 28 digits of the data set. One fixed spelling is easier to learn than
a mix of `0.5`, `0.50` and `.5`.
"""

from __future__ import annotations

from fractions import Fraction

from keeptune.config.solution_format import HalfRounding, Rounding

LARGEST_PLAIN_EXPONENT = 15
"""Numbers from 10^16 on have an exponent, because no model learns to write a hundred digits."""

SMALLEST_PLAIN_EXPONENT = -4
"""Under a rounding to significant digits, numbers below 10^-4 have an exponent. Under a rounding to decimals, only
numbers that would otherwise become 0 have one."""

SIGNIFICANT_DIGITS = 6
"""Digits of a number with an exponent under a rounding to decimals: two more than the headline grader needs."""


def format_rounded(value: Fraction, rounding: Rounding) -> str:
    """Return the number rounded as declared, without trailing zeros after the point.

    Examples are `2.5`, `-1784.1` and `0` (never `-0`). A rounding to significant digits applies to integers too: with
    four digits, 1234567 becomes `1235000`. Very large and very small numbers have an exponent: `2.85416E+85`, `2E-3`.
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    place = last_place(value, rounding)
    units = _round_to_integer(*_scale_down(abs(value), place), rounding.halves)
    exponent = len(str(units)) - 1 + place
    return sign + (
        _format_plain(units, place) if _is_plain(exponent, rounding) else _format_scientific(units, exponent)
    )


def is_rounded(answer: Fraction, value: Fraction, rounding: Rounding) -> bool:
    """Whether `answer` is `value` rounded as declared.

    The check compares their distance with half a unit of the last place and does not round again.
    """
    if value == 0:
        return answer == 0
    place = last_place(value, rounding)
    answer_top, answer_bottom = _scale_down(answer, place)
    value_top, value_bottom = _scale_down(value, place)
    units, rest = divmod(answer_top, answer_bottom)
    if rest:
        return False
    doubled_error = 2 * abs(units * value_bottom - value_top)
    if doubled_error == value_bottom:
        return abs(answer) > abs(value) if rounding.halves == "up" else units % 2 == 0
    return doubled_error < value_bottom


def decimal_places(value: Fraction, rounding: Rounding) -> int:
    """Return the number of decimals of the rounded number, including trailing zeros, which its steps must show."""
    return max(0, -last_place(value, rounding))


def last_place(value: Fraction, rounding: Rounding) -> int:
    """Return the exponent of the last place that the rounding keeps: -2 for hundredths, 3 for thousands."""
    if value == 0:
        return 0 if rounding.digits is not None else -rounding.places
    exponent = leading_place(value)
    if rounding.digits is not None:
        return exponent - rounding.digits + 1
    return -rounding.places if _is_plain(exponent, rounding) else exponent - SIGNIFICANT_DIGITS + 1


def leading_place(value: Fraction) -> int:
    """Return the exponent of the first digit of a nonzero number: 2 for 345, -1 for 0.3."""
    top, bottom = abs(value.numerator), value.denominator
    # The estimate from the bit lengths is off by at most one in either direction; log10(2) is 0.30103.
    exponent = (top.bit_length() - bottom.bit_length()) * 30103 // 100000
    while _reaches(top, bottom, exponent + 1):
        exponent += 1
    while not _reaches(top, bottom, exponent):
        exponent -= 1
    return exponent


def _reaches(top: int, bottom: int, exponent: int) -> bool:
    """Whether top / bottom >= 10^exponent."""
    power: int = 10 ** abs(exponent)
    return top >= bottom * power if exponent >= 0 else top * power >= bottom


def _is_plain(exponent: int, rounding: Rounding) -> bool:
    smallest = -rounding.places if rounding.digits is None else SMALLEST_PLAIN_EXPONENT
    return smallest <= exponent <= LARGEST_PLAIN_EXPONENT


def _scale_down(value: Fraction, place: int) -> tuple[int, int]:
    """Return the numerator and denominator of value / 10^place."""
    top, bottom = value.as_integer_ratio()
    return (top, bottom * 10**place) if place >= 0 else (top * 10**-place, bottom)


def _round_to_integer(top: int, bottom: int, halves: HalfRounding) -> int:
    """Return the integer nearest to the nonnegative number top / bottom."""
    units, rest = divmod(top, bottom)
    if 2 * rest == bottom:
        return units + 1 if halves == "up" else units + units % 2
    return units + (2 * rest > bottom)


def _format_plain(units: int, place: int) -> str:
    """Return units · 10^place as a decimal number."""
    if place >= 0:
        return str(units * 10**place)
    digits = str(units).zfill(1 - place)
    whole, decimals = digits[:place], digits[place:].rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def _format_scientific(units: int, exponent: int) -> str:
    """Return the number with one digit before the point and an exponent."""
    return f"{_format_plain(units, 1 - len(str(units)))}E{exponent:+d}"
