"""Grader `number`: compares two numbers exactly, within a tolerance, or to a number of significant digits."""

from __future__ import annotations

from fractions import Fraction
from math import floor, log10
from typing import ClassVar

from pydantic import Field, model_validator

from keeptune.grading.base import Grade, Grader, GraderError
from keeptune.grading.graders.number_spellings import read_number
from keeptune.grading.number import headline_tolerance


class Number(Grader):
    """Compares numbers as exact rationals.

    Currencies, units, marks between thousands, decimal commas, full-width digits, magnitudes, fractions and LaTeX are
    read. A whole truth must be met exactly, and any other truth to two decimals or four significant digits, unless an
    option says otherwise.
    """

    name: ClassVar[str] = "number"

    exact: bool = Field(False, description="equal values only, also for truths that are not whole")
    tolerance: float | None = Field(None, ge=0, le=1e30, description="largest absolute error, also for whole truths")
    relative_tolerance: float | None = Field(
        None, ge=0, le=1e30, description="largest error relative to the truth; with `tolerance`, the larger of the two"
    )
    significant_digits: int | None = Field(
        None, ge=1, le=30, description="equal to the truth when rounded to this number of digits, also for whole truths"
    )

    @model_validator(mode="after")
    def _check_one_rule(self) -> Number:
        has_tolerance = self.tolerance is not None or self.relative_tolerance is not None
        if self.exact + has_tolerance + (self.significant_digits is not None) > 1:
            raise ValueError("set only one of exact, tolerance (with relative_tolerance) and significant_digits")
        return self

    def check_truth(self, truth: str, problem: str = "") -> None:
        if read_number(truth) is None:
            raise GraderError(f"the answer is not a number: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        value, expected = read_number(answer), read_number(truth)
        if value is None or expected is None:
            return Grade(0.0, answer, {"value": None})
        is_right = abs(value - expected) <= self._largest_error(expected)
        return Grade(float(is_right), answer, {"value": str(value)})

    def _largest_error(self, truth: Fraction) -> Fraction:
        if self.significant_digits is not None:
            return _half_unit(truth, self.significant_digits)
        if self.tolerance is not None or self.relative_tolerance is not None:
            relative = _to_fraction(self.relative_tolerance) * abs(truth)
            return max(_to_fraction(self.tolerance), relative)
        if self.exact or truth.denominator == 1:
            return Fraction(0)
        return headline_tolerance(truth)


def _to_fraction(value: float | None) -> Fraction:
    """Return the decimal that the option is written as: 0.005 is 1/200, although the nearest float is not."""
    return Fraction(0) if value is None else Fraction(str(value))


def _half_unit(truth: Fraction, digits: int) -> Fraction:
    """Return half a unit in the last of the significant digits of a number."""
    if truth == 0:
        return Fraction(0)
    magnitude = abs(truth)
    # The logarithm of a large fraction may be off by one at a power of ten, so it is corrected exactly.
    exponent = floor(_log10(magnitude))
    exponent += (magnitude >= Fraction(10) ** (exponent + 1)) - (magnitude < Fraction(10) ** exponent)
    return Fraction(10) ** (exponent - digits + 1) / 2


def _log10(value: Fraction) -> float:
    return log10(value.numerator) - log10(value.denominator)
