"""A number as its digits and the place of its point: what every procedure by digits starts from and ends with.

Digits get names, because a small model finds `c` again far more surely than "the third digit from the left".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALPHABET = "abcdefghijklmnopqrstuvwxyz"

FEW_DIGITS = 6
"""Right-hand factors of up to so many digits begin with the same name."""

PLAIN_PLACES = 9
"""Numbers of so many places before the point are written without an exponent, whatever they end with."""


def names(count: int) -> str:
    """The names of the digits of a left or only number, the first digit's first."""
    return ALPHABET[:count]


def under_each_other(left: str, right: str) -> str:
    """The digits of two numbers of equal length behind one name each: `a42b25`."""
    return "".join(name + a + b for name, a, b in zip(names(len(left)), left, right, strict=True))


def far_names(count: int) -> str:
    """The names of the digits of a right-hand factor: the end of the alphabet, so that no name stands for two. Up to
    six digits begin with u: were z always the last, v would be the first of five and the second of six, and a model
    that tells places by their names miscounted them."""
    return ALPHABET[-max(count, FEW_DIGITS) :][:count]


@dataclass(frozen=True, slots=True)
class Numeral:
    """0.`digits` · 10^`places`: 42.5 is 425 with two places, 0.05 is 5 with minus one. Zero has no digits."""

    digits: str
    places: int

    @classmethod
    def of(cls, number: str) -> Numeral:
        """The numeral of a decimal text without sign."""
        whole, _, decimals = number.partition(".")
        digits = (whole + decimals).lstrip("0")
        return cls(digits, len(digits) - len(decimals))

    def cut(self, width: int) -> Numeral:
        """The same number with `width` digits: cut off, or filled up with zeros."""
        return Numeral(self.digits[:width].ljust(width, "0"), self.places)

    def leading(self) -> Numeral:
        """The same number without the zero that a product may begin with, one digit shorter in any case."""
        if self.digits.startswith("0"):
            return Numeral(self.digits[1:], self.places - 1)
        return Numeral(self.digits[:-1], self.places)

    def listed(self, labels: Sequence[str]) -> str:
        """Each digit behind its name, and the point where it belongs: `a4b2.c5`; a carry has no name: `1a4b2.c5`."""
        marked = [label + digit for label, digit in zip(labels, self.digits, strict=True)]
        if 0 < self.places < len(marked):
            marked.insert(self.places, ".")
        return "".join(marked)

    def place(self) -> str:
        """Where the point of a product with its carry is: `7f`, the seventh place, behind digit f; `1.`, before all
        named digits; `12E`, too far for either, so that there is an exponent."""
        if self._is_far():
            return f"{self.places}E"
        return f"{self.places}{ALPHABET[self.places - 2] if self.places > 1 else '.'}"

    def placed(self) -> str:
        """A product with its carry and its point, and how many places are left if the carry is 0, the exponent with
        them where there is one: `1a3b5c7d3e9f1.g0=7`, `0a9b8c7d2e0f1g5=11E10`."""
        filled = self.digits if self._is_far() else self.digits.ljust(self.places, "0")
        listed = Numeral(filled, self.places).listed(("", *names(len(filled) - 1)))
        count = self.places - filled.startswith("0")
        end = "." if self.places == len(filled) else ""
        return f"{listed}{end}={count}" + (f"E{count - 1}" if self._is_far() else "")

    def text(self) -> str:
        """The number in decimals, as many as its digits give; zeros where they do not reach the point, or an exponent
        where the point is far behind them."""
        if -PLAIN_PLACES < self.places <= 0:
            return "0." + "0" * -self.places + self.digits
        if self._is_far():
            return self._scientific()
        digits = self.digits.ljust(self.places, "0")
        whole, decimals = digits[: self.places].lstrip("0") or "0", digits[self.places :]
        return f"{whole}.{decimals}" if decimals else whole

    def _is_far(self) -> bool:
        return self.places <= -PLAIN_PLACES or self.places > max(len(self.digits), PLAIN_PLACES)

    def _scientific(self) -> str:
        digits = self.digits.lstrip("0")
        exponent = self.places - 1 - (len(self.digits) - len(digits))
        return f"{digits[0]}.{digits[1:]}E{exponent:+d}"


def signed(negative: bool, number: str) -> str:
    """The number with its sign; a zero has none."""
    return f"-{number}" if negative and number.strip("0.") else number
