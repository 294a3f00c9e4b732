"""The first digits of a square root, read back: every trial, what it leaves, and what that is compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keeptune.skill.arithmetic.digits.blocks import Quotient
from keeptune.skill.arithmetic.digits.numeral import names

_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{4,5}|-))((?:,[0-9]-1=[0-9])?)$")

ROOT_DIGITS = 3
"""Digits of a root that are found one by one."""


@dataclass(slots=True)
class Root:
    """The digits found so far, and what the next one is found from: what is left of the number, and its decimals."""

    digits: str
    left: int
    decimals: str
    rest: int = 0
    tried: str = ""
    to_try: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all digits are found; then `rest` is what their square leaves."""
        return len(self.digits) == ROOT_DIGITS

    def trial(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """The next digit, d, taken off d times behind twice those before it; what is left has to be compared next."""
        verdict = _VERDICT.search(cells)
        if verdict is None or self.tried or digit != (self.to_try or digit):
            return False
        divisor = f"{2 * int(self.digits):02d}{digit}"
        block = Quotient(names(len(divisor)), self.left, divisor, len(divisor))
        if not block.line(first_three, first_two, int(digit), cells[: verdict.start()]):
            return False
        self.rest, is_below_zero = block.rest, block.rest < 0
        self.tried = "" if is_below_zero else digit
        end, self.to_try = retried(digit, -1 if is_below_zero else 0)
        left = "-" if is_below_zero else str(block.rest).zfill(len(divisor) + 1)
        return verdict[1] == block.column() + left and verdict[2] == end

    def doubled(self, found: str, twice: str, rest: str, sign: str, end: str) -> bool:
        """Twice the digits up to the tried one, beside what that left, which must not be more."""
        is_more = self.rest > int(twice)
        expected, self.to_try = retried(self.tried or "0", int(is_more))
        if not self.tried or found != self.digits + self.tried or int(rest) != self.rest or end != expected:
            return False
        self.tried = ""
        if not is_more:
            self.digits, self.left = found, int(f"{self.rest}{self.decimals}")
        return (sign == ">") == is_more


def retried(digit: str, by: int) -> tuple[str, str]:
    """What a line says at its end where its digit is one off, and the digit that is then to be tried."""
    if not by:
        return "", ""
    other = str(int(digit) + by)
    return f",{digit}{by:+d}={other}", other
