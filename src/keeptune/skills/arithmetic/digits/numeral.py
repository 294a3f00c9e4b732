"""Decimal numbers as digits and the position of the point, the input and output of all digit procedures.

Digits have letter names. A small model finds `c` more reliably than "the third digit from the left".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALPHABET = "abcdefghijklmnopqrstuvwxyz"

MIN_FAR_NAMES = 6
"""The names of right factors with at most this many digits begin with the same letter."""

PLAIN_PLACES = 9
"""Numbers with at most this many digits before the point have no exponent."""


def names(count: int) -> str:
    """Return the digit names of a left factor or a single number, from its first digit."""
    return ALPHABET[:count]


def pair_digits(left: str, right: str) -> str:
    """List the digit pairs of two numbers of equal length, each after its name: `a42b25`."""
    return "".join(name + a + b for name, a, b in zip(names(len(left)), left, right, strict=True))


def far_names(count: int) -> str:
    """Return the digit names of a right factor, from the end of the alphabet, so that no name has two meanings.

    The names of up to six digits begin with u. If they always ended with z, v would be the first of five digits and the
    second of six, and a model that identifies places by name would miscount them.
    """
    return ALPHABET[-max(count, MIN_FAR_NAMES) :][:count]


@dataclass(frozen=True, slots=True)
class Numeral:
    """The number 0.`digits` · 10^`places`. For example, 42.5 is 425 with 2 places, and 0.05 is 5 with -1 places.

    Zero has no digits.
    """

    digits: str
    places: int

    @classmethod
    def of(cls, number: str) -> Numeral:
        """Return the numeral of a decimal text without a sign."""
        whole, _, decimals = number.partition(".")
        digits = (whole + decimals).lstrip("0")
        return cls(digits, len(digits) - len(decimals))

    def resize(self, width: int) -> Numeral:
        """Return the number with `width` digits, truncated or padded with zeros."""
        return Numeral(self.digits[:width].ljust(width, "0"), self.places)

    def shorten(self) -> Numeral:
        """Return the number without its leading zero, or without its last digit if there is no leading zero."""
        if self.digits.startswith("0"):
            return Numeral(self.digits[1:], self.places - 1)
        return Numeral(self.digits[:-1], self.places)

    def list_digits(self, labels: Sequence[str]) -> str:
        """List each digit after its name, with the point: `a4b2.c5`; a carry has no name: `1a4b2.c5`."""
        cells = [label + digit for label, digit in zip(labels, self.digits, strict=True)]
        if 0 < self.places < len(cells):
            cells.insert(self.places, ".")
        return "".join(cells)

    def point_label(self) -> str:
        """Return the position of the point in a product with its carry.

        `7f` is the seventh place, after digit f. `1.` is before all named digits. `12E` is outside the digits, so the
        number has an exponent.
        """
        if self._is_far():
            return f"{self.places}E"
        return f"{self.places}{ALPHABET[self.places - 2] if self.places > 1 else '.'}"

    def list_with_point(self) -> str:
        """List a product with its carry and its point, followed by its number of places and its exponent, if any.

        A carry of 0 counts one place less: `1a3b5c7d3e9f1.g0=7`, `0a9b8c7d2e0f1g5=11E10`.
        """
        filled = self.digits if self._is_far() else self.digits.ljust(self.places, "0")
        listed = Numeral(filled, self.places).list_digits(("", *names(len(filled) - 1)))
        count = self.places - filled.startswith("0")
        end = "." if self.places == len(filled) else ""
        return f"{listed}{end}={count}" + (f"E{count - 1}" if self._is_far() else "")

    def format(self) -> str:
        """Format the number with all its digits.

        Zeros fill the gap to the point. A number whose point is far from its digits has an exponent.
        """
        if -PLAIN_PLACES < self.places <= 0:
            return "0." + "0" * -self.places + self.digits
        if self._is_far():
            return self._format_scientific()
        digits = self.digits.ljust(self.places, "0")
        whole, decimals = digits[: self.places].lstrip("0") or "0", digits[self.places :]
        return f"{whole}.{decimals}" if decimals else whole

    def _is_far(self) -> bool:
        return self.places <= -PLAIN_PLACES or self.places > max(len(self.digits), PLAIN_PLACES)

    def _format_scientific(self) -> str:
        digits = self.digits.lstrip("0")
        exponent = self.places - 1 - (len(self.digits) - len(digits))
        return f"{digits[0]}.{digits[1:]}E{exponent:+d}"


def with_sign(negative: bool, number: str) -> str:
    """Return the number with its sign; zero has no sign."""
    return f"-{number}" if negative and number.strip("0.") else number
