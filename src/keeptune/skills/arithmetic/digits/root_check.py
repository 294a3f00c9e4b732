"""Verification of the first digits of a square root: every trial, its remainder, and the comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keeptune.skills.arithmetic.digits.blocks import Quotient, retry_prefix
from keeptune.skills.arithmetic.digits.numeral import names

_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{4,5}|-))$")

TRIED_DIGITS = 3
"""Number of root digits that are found one by one."""


@dataclass(slots=True)
class Root:
    """The root digits so far, and the remainder and decimals from which the next digit follows."""

    digits: str
    left: int
    decimals: str
    rest: int = 0
    tried: str = ""
    retry: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all digits are found; then `rest` is the number minus the square of the root."""
        return len(self.digits) == TRIED_DIGITS

    @property
    def _twice(self) -> str:
        return f"{2 * int(self.digits):02d}"

    def trial(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """Check the trial of the next digit d, which subtracts d times (twice the root, followed by d)."""
        return not self.retry and self._check_subtraction(first_three, first_two, digit, cells)

    def repeat_trial(self, line: str) -> bool:
        """Check the repeated trial with the digit that the previous line corrected by one."""
        written = str(self.left).zfill(len(self._twice) + 2)
        return self._check_subtraction(written[:3], self._twice[:2], self.retry[-2], line.removeprefix(self.retry))

    def _check_subtraction(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        verdict = _VERDICT.search(cells)
        if verdict is None or self.tried:
            return False
        divisor = self._twice + digit
        block = Quotient(names(len(divisor)), self.left, divisor, len(divisor))
        if not block.line(first_three, first_two, int(digit), cells[: verdict.start()]):
            return False
        self.rest, is_negative = block.rest, block.rest < 0
        self.tried = "" if is_negative else digit
        self.retry = retry_prefix(digit, -1 if is_negative else 0)
        left = "-" if is_negative else str(block.rest).zfill(len(divisor) + 1)
        return verdict[1] == block.column() + left

    def compare(self, line: str) -> bool:
        """Check the comparison of the remainder with twice the root including the tried digit."""
        root_digits, width = self.digits + self.tried, len(self._twice) + 2
        is_more = self.rest > 2 * int(root_digits)
        doubled, left = f"{2 * int(root_digits):0{width}d}", f"{self.rest:0{width}d}"
        pairs = [f"{one},{other}" for one, other in zip(doubled, left, strict=False) if one != other]
        expected = f"{root_digits}+{root_digits}={doubled},{left}:{''.join(pairs[:1])}{'>' if is_more else '<'}"
        if not self.tried or line != expected:
            return False
        self.retry, self.tried = retry_prefix(self.tried, int(is_more)), ""
        if not is_more:
            self.digits, self.left = root_digits, int(f"{self.rest}{self.decimals}")
        return True
