"""Long division with one line per digit of the quotient.

    a26b27                                    the digit pairs of dividend and divisor, here for 22 / 67 * 10
    0.3 190/67=2:b714+0=14,0-4=16a612+2=14,9-4=05,1-1=056,67<
A line begins with the digits found so far and a trial: the first three digits of the remainder over the first two of
the divisor. The trial digit times the divisor is then subtracted from the right, with one part per digit of the
divisor:
    b7        the name and the digit
    14        its product with the trial digit
    +0=14     plus the borrow
    0-4=16    the digit of the remainder minus the last digit of that: 1 if it borrows, and the new digit
The next borrow is the sum of the first digits of both results. The line ends with the column before all others. A
negative remainder is written as `-`. Otherwise the line ends with the first three digits of the remainder, the first
two of the divisor, and whether the remainder is smaller. The line of a digit 0 only repeats the remainder.
The divisor moves one place to the right with each line, and digits behind the last kept place are dropped.

A trial can be off by one. On purpose, two trials in ten are too low and one is too high. After `-`, the next line adds
the divisor back (`2+…`), and after `>`, it subtracts the divisor once more (`4-…`), in columns. So a model that
misjudges a close case can still reach the right quotient. In an earlier form one line in sixty ended with `>`, and the
sign preceded the divisor. A model then wrote `<` after two of three trials that were too low, the cause of most wrong
quotients (results/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from keeptune.skills.arithmetic.digits.columns import Operation, column_pass
from keeptune.skills.arithmetic.digits.numeral import names, pair_digits

KEPT_PLACES = 7
"""Number of columns that are kept, and the largest number of digits of a divisor."""

LARGEST_DIGIT = 9
"""Largest digit. After digits of the divisor were dropped, the remainder can stay slightly above the divisor."""


@dataclass(frozen=True, slots=True)
class _Remainder:
    """The remainder of the dividend: a digit before the first column, and one digit per used column."""

    before: int
    digits: tuple[int, ...]

    @property
    def number(self) -> int:
        return int(f"{self.before}{''.join(map(str, self.digits))}")

    @property
    def first_three(self) -> str:
        return f"{self.before}{self.digits[0]}{(*self.digits, 0)[1]}"

    def verdict(self, divisor: str, leading: str) -> str:
        """Return the comparison with the divisor, or `-` for a negative remainder; it shows if the trial was right."""
        if self.before < 0:
            return "-"
        return f"{self.first_three},{leading}{'<' if self.number < int(divisor) else '>'}"


def divide(dividend: str, divisor: str, digits: int, whole: int = 1, kept: int = KEPT_PLACES) -> tuple[list[str], str]:
    """Return the lines and the first `digits` digits of a quotient, truncated; `whole` of them precede the point.

    Both numbers have the same length, at most `kept`. The divisor does not begin with 0. The quotient is below ten.
    """
    lines = [pair_digits(dividend, divisor)]
    left, quotient_digits = _Remainder(0, tuple(map(int, dividend))), ""
    for step in range(digits):
        used = min(len(divisor), kept - step)
        if used < 1:
            break
        if step:
            left = _shift(left, used)
        leading = (divisor + "0")[:2]
        first, over = int(left.first_three), int(leading)
        # Further digits of the divisor count as one half, so a trial can be off by one in both directions.
        fits = 2 * first // (2 * over + 1) if used > len(leading) else first // over
        tried = perturb_trial(min(LARGEST_DIGIT, fits), first, over, quotient_digits)
        written, digit, left = _find_digit(left, divisor[:used], leading, tried)
        lines += [format_prefix(quotient_digits, whole) + written[0], *written[1:]]
        quotient_digits += str(digit)
    return lines, quotient_digits.ljust(digits, "0")


def subtract_multiple(left: str, divisor: str, digit: int) -> tuple[str, str, int]:
    """Subtract a digit times the divisor from `left`, which has one digit more than the divisor.

    Returns the head of the line, its columns up to the remainder, and the remainder.
    """
    before, *digits = map(int, left)
    line, rest = _try_digit(_Remainder(before, tuple(digits)), divisor, divisor[:2], digit)
    head, colon, columns = line.partition(":")
    return head + colon, f"{columns},{_format_first_column(before, rest, digit)}", int(left) - digit * int(divisor)


def perturb_trial(digit: int, number: int, divisor: int, quotient_digits: str) -> int:
    """Return the digit to try, which is off by one in three of ten cases.

    A model misjudges close cases, so it must see how to correct both errors. The digits found so far are part of the
    hash, so that no division step always has a wrong trial.
    """
    drawn = crc32(f"{quotient_digits}:{number}/{divisor}".encode()) % 10
    if drawn < 2 and digit > int(number > 99):  # The line of a 0 does not list the digit before its columns.
        return digit - 1
    return digit + 1 if drawn == 2 and digit < LARGEST_DIGIT else digit


def trial_digits(digit: int, number: int, divisor: int, quotient_digits: str) -> tuple[int, ...]:
    """Return the digits to try, for procedures that repeat a wrong trial; the right digit comes last."""
    tried = perturb_trial(digit, number, divisor, quotient_digits)
    return (digit,) if tried == digit else (tried, digit)


def correct_trial(digit: int, by: int) -> str:
    """Return the beginning of a repeated trial, such as `4+1=5:`.

    If it began like the wrong trial, a model would copy that trial including its digit.
    """
    return f"{digit}{by:+d}={digit + by}:"


def format_prefix(quotient_digits: str, whole: int) -> str:
    """Format the digits found so far as a number with `whole` digits before the point, and a space."""
    if whole <= 0:
        return f"0.{'0' * -whole}{quotient_digits} "
    if not quotient_digits:
        return ""
    point = "." if len(quotient_digits) >= whole else ""
    return f"{quotient_digits[:whole].lstrip('0') or '0'}{point}{quotient_digits[whole:]} "


def _shift(left: _Remainder, used: int) -> _Remainder:
    """Return the same number in columns that are one place further right."""
    shifted = (*left.digits[1:], 0)[:used]
    return _Remainder(left.digits[0], shifted)


def _find_digit(left: _Remainder, divisor: str, leading: str, digit: int) -> tuple[list[str], int, _Remainder]:
    before = left.before
    line, left = _try_digit(left, divisor, leading, digit)
    lines = [f"{line},{_format_first_column(before, left, digit)}{left.verdict(divisor, leading)}"]
    while left.before < 0 or (left.number >= int(divisor) and digit < LARGEST_DIGIT):
        operation: Operation = "+" if left.before < 0 else "-"
        digit += -1 if operation == "+" else 1
        digits = "".join(map(str, left.digits))
        line, rest, carry = column_pass(digits, divisor, operation)
        left = _Remainder(left.before + (carry if operation == "+" else -carry), tuple(map(int, rest)))
        lines.append(f"{digit}{operation}{line}")
    return lines, digit, left


def _format_first_column(before: int, left: _Remainder, digit: int) -> str:
    """Format the digit before all columns minus the borrow from them; the line of a 0 has no such column."""
    return f"{before}-{before - left.before}=" if digit else ""


def _try_digit(left: _Remainder, divisor: str, leading: str, digit: int) -> tuple[str, _Remainder]:
    head = f"{left.first_three}/{leading}={digit}:"
    if digit:
        line, left = _subtract_columns(left, divisor, digit)
        return head + line, left
    repeated = reversed(list(zip(names(len(divisor)), left.digits, strict=True)))
    return head + "".join(f"{name}{digit}" for name, digit in repeated), left


def _subtract_columns(left: _Remainder, divisor: str, digit: int) -> tuple[str, _Remainder]:
    line, rest, borrow = "", [], 0
    for name, divisor_digit, before in reversed(
        list(zip(names(len(divisor)), map(int, divisor), left.digits, strict=True))
    ):
        product = digit * divisor_digit
        taken = product + borrow
        short, after = int(before < taken % 10), (before - taken) % 10
        line += f"{name}{divisor_digit}{product:02d}+{borrow}={taken:02d},{before}-{taken % 10}={short}{after}"
        borrow = taken // 10 + short
        rest.append(after)
    return line, _Remainder(left.before - borrow, tuple(reversed(rest)))
