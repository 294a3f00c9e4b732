"""Long division, one digit of the quotient a line.

    a26b27                        the digits of the dividend and of the divisor, under each other: 22 / 67 * 10
    3b72121039a61821423           3 times the divisor taken off, from the right
For every digit of the divisor: its name and itself, its product with 3, that with the borrow, the digit that the line
before left here, then the borrow and the digit that is left. The divisor moves one place to the right with each line;
what moves behind the last place that is kept is dropped. A line of a 0 only repeats what stands there.

The digit is tried as the first three digits of what is left over the first two of the divisor, which is sometimes one
too many, never too few. Then the next line, `2+…`, puts the divisor back: a model that misjudges a close case can
still end right.
"""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.skill.arithmetic.digits.numeral import names

KEPT_PLACES = 7


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left of the dividend: a digit before the first column, and one in each column in use."""

    before: int
    digits: tuple[int, ...]


def quotient(dividend: str, divisor: str, digits: int, kept: int = KEPT_PLACES) -> tuple[list[str], str]:
    """The lines, and `digits` digits of the quotient, cut off; the first stands for ones.

    Both numbers have as many digits, the divisor does not begin with 0, and the quotient is below ten.
    """
    columns = zip(names(len(divisor)), dividend, divisor, strict=True)
    lines = ["".join(name + a + b for name, a, b in columns)]
    left, found = _Left(0, tuple(map(int, dividend))), ""
    for step in range(digits):
        used = min(len(divisor), max(kept, len(divisor)) - step)
        if used < 1:
            break
        if step:
            left = _moved(left, used)
        written, digit, left = _digit(left, divisor[:used], (divisor + "0")[:2])
        lines += written
        found += str(digit)
    return lines, found.ljust(digits, "0")


def _moved(left: _Left, used: int) -> _Left:
    """The same number, seen from columns that stand one place further right."""
    moved = (*left.digits[1:], 0)[:used]
    return _Left(left.digits[0], moved)


def _digit(left: _Left, divisor: str, leading: str) -> tuple[list[str], int, _Left]:
    first_three = int(f"{left.before}{left.digits[0]}{(*left.digits, 0)[1]}")
    digit = min(9, first_three // int(leading))
    if digit == 0:
        line = "".join(f"{name}{d}" for name, d in reversed(list(zip(names(len(divisor)), left.digits, strict=True))))
        return [f"0{line}"], 0, left
    line, left = _taken(left, divisor, digit)
    lines = [f"{digit}{line}"]
    while left.before < 0:
        digit -= 1
        line, left = _put_back(left, divisor)
        lines.append(f"{digit}+{line}")
    return lines, digit, left


def _taken(left: _Left, divisor: str, digit: int) -> tuple[str, _Left]:
    line, rest, borrow = "", [], 0
    for name, own, before in reversed(list(zip(names(len(divisor)), map(int, divisor), left.digits, strict=True))):
        product = digit * own
        taken = product + borrow
        after = (before - taken) % 10
        borrow = (after + taken - before) // 10
        line += f"{name}{own}{product:02d}{taken:02d}{before}{borrow}{after}"
        rest.append(after)
    return line, _Left(left.before - borrow, tuple(reversed(rest)))


def _put_back(left: _Left, divisor: str) -> tuple[str, _Left]:
    line, rest, carry = "", [], 0
    for name, own, before in reversed(list(zip(names(len(divisor)), map(int, divisor), left.digits, strict=True))):
        total = before + own
        line += f"{name}{before}{own}{total:02d}{total + carry:02d}"
        rest.append((total + carry) % 10)
        carry = (total + carry) // 10
    return line, _Left(left.before + carry, tuple(reversed(rest)))
