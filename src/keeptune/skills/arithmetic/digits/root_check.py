"""The first digits of a square root, read back: every trial, what it leaves, and what that is compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keeptune.skills.arithmetic.digits.blocks import Quotient, retried
from keeptune.skills.arithmetic.digits.numeral import names

_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{4,5}|-))$")

TRIED_DIGITS = 3
"""Digits of a root that are found one by one."""


@dataclass(slots=True)
class Root:
    """The digits found so far, and what the next one is found from: what is left of the number, and its decimals."""

    digits: str
    left: int
    decimals: str
    rest: int = 0
    tried: str = ""
    retry: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all digits are found; then `rest` is what their square leaves."""
        return len(self.digits) == TRIED_DIGITS

    @property
    def _twice(self) -> str:
        return f"{2 * int(self.digits):02d}"

    def trial(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """The next digit, d, taken off d times behind twice those before it; what is left has to be compared next."""
        return not self.retry and self._taken_off(first_three, first_two, digit, cells)

    def tried_again(self, line: str) -> bool:
        """The same with the digit that the line before said is one more or one less."""
        written = str(self.left).zfill(len(self._twice) + 2)
        return self._taken_off(written[:3], self._twice[:2], self.retry[-2], line.removeprefix(self.retry))

    def _taken_off(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        verdict = _VERDICT.search(cells)
        if verdict is None or self.tried:
            return False
        divisor = self._twice + digit
        block = Quotient(names(len(divisor)), self.left, divisor, len(divisor))
        if not block.line(first_three, first_two, int(digit), cells[: verdict.start()]):
            return False
        self.rest, is_below_zero = block.rest, block.rest < 0
        self.tried = "" if is_below_zero else digit
        self.retry = retried(digit, -1 if is_below_zero else 0)
        left = "-" if is_below_zero else str(block.rest).zfill(len(divisor) + 1)
        return verdict[1] == block.column() + left

    def compared(self, line: str) -> bool:
        """Twice the digits up to the tried one, beside what that left, which must not be more."""
        found, width = self.digits + self.tried, len(self._twice) + 2
        is_more = self.rest > 2 * int(found)
        doubled, left = f"{2 * int(found):0{width}d}", f"{self.rest:0{width}d}"
        pairs = [f"{one},{other}" for one, other in zip(doubled, left, strict=False) if one != other]
        expected = f"{found}+{found}={doubled},{left}:{''.join(pairs[:1])}{'>' if is_more else '<'}"
        if not self.tried or line != expected:
            return False
        self.retry, self.tried = retried(self.tried, int(is_more)), ""
        if not is_more:
            self.digits, self.left = found, int(f"{self.rest}{self.decimals}")
        return True
