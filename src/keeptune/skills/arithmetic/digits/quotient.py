"""Long division, one digit of the quotient a line.

    a26b27                                    the digits of dividend and divisor, under each other: 22 / 67 * 10
    0.3 190/67=2:b714+0=14,0-4=16a612+2=14,9-4=05,1-1=056,67<
A line begins with what has been found so far, and a trial: the first three digits of what is left over the first two
of the divisor. The divisor times that digit is then taken off, from the right. For every digit of the divisor: its name
and itself, its product, that with what has to be borrowed, and the digit that was left here less the last digit of
that: 1 if it has to borrow, and the digit that is left. The first digits of both are what the next column has to give.
The line ends with the column before all others: what is below zero is `-`; else the first three digits of what is left,
the first two of the divisor, and behind both whether it is less. A line of a 0 only repeats what stands there. The
divisor moves one place to the right with each line; what moves behind the last place that is kept is dropped.

A trial can be one off; of ten, two are put one too low on purpose and one too high. Behind `-` the next line puts the
divisor back (`2+…`), behind `>` it takes it off once more (`4-…`), in columns: so a model that misjudges a close case
can still end right. Where one line in sixty ended with `>`, and the sign stood before the divisor, a model wrote `<`
behind two of three that were too low: most of its wrong quotients (results/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from keeptune.skills.arithmetic.digits.columns import Operation, passed
from keeptune.skills.arithmetic.digits.numeral import names, under_each_other

KEPT_PLACES = 7
"""Columns behind which the divisor is dropped, and the most digits that it can have."""

LARGEST_DIGIT = 9
"""What is left can stay a little more than the divisor where places of the divisor were dropped; a digit cannot."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left of the dividend: a digit before the first column, and one in each column in use."""

    before: int
    digits: tuple[int, ...]

    @property
    def number(self) -> int:
        return int(f"{self.before}{''.join(map(str, self.digits))}")

    @property
    def first_three(self) -> str:
        return f"{self.before}{self.digits[0]}{(*self.digits, 0)[1]}"

    def against(self, divisor: str, leading: str) -> str:
        """Whether it is less than the divisor, or below zero: what says if the trial was right."""
        if self.before < 0:
            return "-"
        return f"{self.first_three},{leading}{'<' if self.number < int(divisor) else '>'}"


def quotient(
    dividend: str, divisor: str, digits: int, whole: int = 1, kept: int = KEPT_PLACES
) -> tuple[list[str], str]:
    """The lines, and `digits` digits of the quotient, cut off, of which `whole` stand before the point.

    Both numbers have as many digits, at most `kept`; the divisor does not begin with 0, and the quotient is below ten.
    """
    lines = [under_each_other(dividend, divisor)]
    left, found = _Left(0, tuple(map(int, dividend))), ""
    for step in range(digits):
        used = min(len(divisor), kept - step)
        if used < 1:
            break
        if step:
            left = _moved(left, used)
        leading = (divisor + "0")[:2]
        first, over = int(left.first_three), int(leading)
        # A divisor with more digits is taken as if they came to a half, so a trial can be one off both ways.
        fits = 2 * first // (2 * over + 1) if used > len(leading) else first // over
        tried = sometimes_off(min(LARGEST_DIGIT, fits), first, over, found)
        written, digit, left = _digit(left, divisor[:used], leading, tried)
        lines += [so_far(found, whole) + written[0], *written[1:]]
        found += str(digit)
    return lines, found.ljust(digits, "0")


def taken_off(left: str, divisor: str, digit: int) -> tuple[str, str, int]:
    """A digit times the divisor taken off `left`, which has a digit more: how the line begins, its columns up to what
    is left, and that."""
    before, *digits = map(int, left)
    line, rest = _tried(_Left(before, tuple(digits)), divisor, divisor[:2], digit)
    head, colon, columns = line.partition(":")
    return head + colon, f"{columns},{_first_column(before, rest, digit)}", int(left) - digit * int(divisor)


def sometimes_off(digit: int, number: int, divisor: int, found: str) -> int:
    """The digit to try, or one beside it. What is right could be said each time; but a model will misjudge close cases,
    and is to have seen how both ways of being one off are mended. The digits found before decide as well, so that no
    division is always tried wrong."""
    drawn = crc32(f"{found}:{number}/{divisor}".encode()) % 10
    if drawn < 2 and digit > int(number > 99):  # The line of a 0 does not list the digit before its columns.
        return digit - 1
    return digit + 1 if drawn == 2 and digit < LARGEST_DIGIT else digit


def trials(digit: int, number: int, divisor: int, found: str) -> tuple[int, ...]:
    """The digits to try where a trial that is one off is made anew: the right one comes last."""
    tried = sometimes_off(digit, number, divisor, found)
    return (digit,) if tried == digit else (tried, digit)


def corrected(digit: int, by: int) -> str:
    """How a trial begins that is made anew, because the one before it was one off. Begun as that one was, a model
    copied it to its end, the digit included."""
    return f"{digit}{by:+d}={digit + by}:"


def so_far(found: str, whole: int) -> str:
    """The digits found so far as a number of which `whole` digits will stand before the point, and a space."""
    if whole <= 0:
        return f"0.{'0' * -whole}{found} "
    if not found:
        return ""
    point = "." if len(found) >= whole else ""
    return f"{found[:whole].lstrip('0') or '0'}{point}{found[whole:]} "


def _moved(left: _Left, used: int) -> _Left:
    """The same number, seen from columns that stand one place further right."""
    moved = (*left.digits[1:], 0)[:used]
    return _Left(left.digits[0], moved)


def _digit(left: _Left, divisor: str, leading: str, digit: int) -> tuple[list[str], int, _Left]:
    before = left.before
    line, left = _tried(left, divisor, leading, digit)
    lines = [f"{line},{_first_column(before, left, digit)}{left.against(divisor, leading)}"]
    while left.before < 0 or (left.number >= int(divisor) and digit < LARGEST_DIGIT):
        operation: Operation = "+" if left.before < 0 else "-"
        digit += -1 if operation == "+" else 1
        own = "".join(map(str, left.digits))
        line, rest, carry = passed(own, divisor, operation)
        left = _Left(left.before + (carry if operation == "+" else -carry), tuple(map(int, rest)))
        lines.append(f"{digit}{operation}{line}")
    return lines, digit, left


def _first_column(before: int, left: _Left, digit: int) -> str:
    """The digit before all columns, less what they carry there; a line of a 0 has no such column."""
    return f"{before}-{before - left.before}=" if digit else ""


def _tried(left: _Left, divisor: str, leading: str, digit: int) -> tuple[str, _Left]:
    head = f"{left.first_three}/{leading}={digit}:"
    if digit:
        line, left = _taken(left, divisor, digit)
        return head + line, left
    repeated = reversed(list(zip(names(len(divisor)), left.digits, strict=True)))
    return head + "".join(f"{name}{own}" for name, own in repeated), left


def _taken(left: _Left, divisor: str, digit: int) -> tuple[str, _Left]:
    line, rest, borrow = "", [], 0
    for name, own, before in reversed(list(zip(names(len(divisor)), map(int, divisor), left.digits, strict=True))):
        product = digit * own
        taken = product + borrow
        short, after = int(before < taken % 10), (before - taken) % 10
        line += f"{name}{own}{product:02d}+{borrow}={taken:02d},{before}-{taken % 10}={short}{after}"
        borrow = taken // 10 + short
        rest.append(after)
    return line, _Left(left.before - borrow, tuple(reversed(rest)))
