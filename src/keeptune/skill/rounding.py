"""How an exact answer is written as text: rounded, and in one spelling only.

A model can learn to write `0.87`, but not the 28 digits of the data set; and a text that is spelled in one way only
is easier to learn than one that is `0.5`, `0.50` and `.5` by turns.
"""

from __future__ import annotations

from fractions import Fraction

LARGEST_PLAIN = 10**16
"""From here on a number is written with an exponent: nobody learns to write a hundred digits."""

SIGNIFICANT_DIGITS = 6
"""Digits of a number with an exponent; two more than the headline grader asks for."""


def rounded(value: Fraction, places: int) -> str:
    """The number with at most `places` decimals, halves rounded away from zero, without trailing zeros.

    `2.5`, `-1784.1`, `0`; never `-0`. Numbers that have no good plain form, from 10^16 on and those between 0 and
    10^-places, get six significant digits and an exponent: `2.85416E+85`, `2E-3`.
    """
    size = abs(value)
    sign = "-" if value < 0 else ""
    if size >= LARGEST_PLAIN or 0 < size < Fraction(1, 10**places):
        return sign + _with_exponent(size)
    return sign + _plain(_nearest(size * 10**places), places)


def _nearest(size: Fraction) -> int:
    """The nearest integer to a number that is not negative; the larger one of two."""
    return (2 * size.numerator + size.denominator) // (2 * size.denominator)


def _plain(units: int, places: int) -> str:
    """So many units of the last decimal place, as a decimal number."""
    digits = str(units).zfill(places + 1)
    whole, decimals = digits[: len(digits) - places], digits[len(digits) - places :].rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def _with_exponent(size: Fraction) -> str:
    """A positive number in scientific notation."""
    exponent = _exponent(size)
    mantissa = _nearest(size * Fraction(10) ** (SIGNIFICANT_DIGITS - 1 - exponent))
    if mantissa == 10**SIGNIFICANT_DIGITS:
        mantissa, exponent = mantissa // 10, exponent + 1
    return f"{_plain(mantissa, SIGNIFICANT_DIGITS - 1)}E{exponent:+d}"


def _exponent(size: Fraction) -> int:
    """The power of ten that a positive number's first digit stands for."""
    # The estimate from the bits is off by at most one either way: log10(2) is 0.30103 and lengths are whole bits.
    exponent = (size.numerator.bit_length() - size.denominator.bit_length()) * 30103 // 100000
    while size >= Fraction(10) ** (exponent + 1):
        exponent += 1
    while size < Fraction(10) ** exponent:
        exponent -= 1
    return exponent
