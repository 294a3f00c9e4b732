"""Long multiplication, one digit of the right factor a line, from its last digit to its first.

    u3b412+0=12+1=13a515+1=16+2=18
is the line of the right factor's digit u, which is 3. For every digit of the left factor, from the right: its name and
itself, its product with 3, that with the carry, and that with the digit that the line before left here, of which the
last digit stays and the first is the next carry. Each step joins two numbers only, which a small model learns far
sooner than three at once.

Before the lines of an abridged product stands where its point will be: `4+2=6e`, behind digit e, the sixth with the
carry; `6+6=12E`, too far for that, so it has an exponent. That is said once more before the listing, which ends with
the places there are: `6e` and `0a6b5c8d0e4.f1g2=5`, one less where the carry is 0; `12E` and `1a6b5c8d0e4f1g2=12E11`.
Nearly every product that a model got wrong had all its digits and another point: it had to count digits while it listed
them, and later, when it did not have to count, to remember the letter over all lines (results/LOG.md).

A line begins where the product's last digit that is kept stands, so short of an exact product it gets one digit
longer with every line. A line of a 0 only repeats what stands there. Behind the last line the product is listed from
its first digit, `1a8b3v6`: the last carry, the digits of the last line, and those that earlier lines ended with.
"""

from __future__ import annotations

from keeptune.skills.arithmetic.digits.numeral import Numeral, far_names, names

WIDTH = 6
"""Digits of a right factor that are used at most, and one more of a left one, filled up with zeros: enough for an error
far below 1 in 10,000."""


def exact(left: str, right: str, decimals: int = 0) -> tuple[list[str], str]:
    """The listing of two integers and the lines of their product, and its digits, the last so many behind the point."""
    labels, right_labels = names(len(left)), far_names(len(right))
    lines, digits = _lines(left, right, whole=True)
    result = Numeral(digits, len(digits) - decimals).listed(("", *labels, *right_labels[1:]))
    return [Numeral(left, 0).listed(labels), Numeral(right, 0).listed(right_labels), *lines, result], digits


def abridged(left: Numeral, right: Numeral, width: int = WIDTH) -> tuple[list[str], Numeral]:
    """The lines of the product of two numbers, cut off behind width + 2 digits, and the product.

    The last digit or two are too small, for what lies behind them is never computed.
    """
    left, right = left.cut(width + 1), right.cut(min(len(right.digits), width))
    lines, digits = _lines(left.digits, right.digits, whole=False)
    product = Numeral(digits, left.places + right.places)
    place = product.place()
    factors = [left.listed(names(width + 1)), right.listed(far_names(len(right.digits)))]
    return [*factors, f"{_added(left.places, right.places)}={place}", *lines, place, product.placed()], product


def _added(left: int, right: int) -> str:
    """A sum of places; where one has two digits, ones and tens are added first: `47+5:7+5=12,40+0=40:40+12`,
    `-19+1:-9+1=-8,-10+0=-10:-10-8`. Every sum is of numbers that stand there: `14+2=10+6` had a 6 to be found unseen,
    and that was where most functions went wrong (results/LOG.md)."""
    if max(abs(left), abs(right)) < 10:
        return f"{left}+{right}"
    tens_left, tens_right = 10 * int(left / 10), 10 * int(right / 10)
    ones_left, ones_right = left - tens_left, right - tens_right
    tens, ones = tens_left + tens_right, ones_left + ones_right
    return f"{left}+{right}:{ones_left}+{ones_right}={ones},{tens_left}+{tens_right}={tens}:{tens}{ones:+d}"


def _lines(left: str, right: str, whole: bool) -> tuple[list[str], str]:
    lines: list[str] = []
    kept, last_digits = [0] * (len(left) + 1), ""
    for place in range(len(right) - 1, -1, -1):
        used = len(left) if whole else min(len(left), len(left) - place)
        line, kept = _line(left[:used], int(right[place]), kept)
        lines.append(f"{far_names(len(right))[place]}{right[place]}{line}")
        if whole and place:
            last_digits = f"{kept[-1]}{last_digits}"
    return lines, "".join(map(str, kept)) + last_digits


def _line(left: str, factor: int, kept: list[int]) -> tuple[str, list[int]]:
    """One line, and the digits that it leaves: the carry in front, then one for each digit of `left`.

    `kept[i]` is what the line before left where digit i of this line falls; this line stands one place further left.
    """
    line, result, carry = "", [], 0
    for place in range(len(left) - 1, -1, -1):
        name, digit, before = names(len(left))[place], int(left[place]), kept[place]
        if factor == 0:
            line += f"{name}{before}"
            result.append(before)
            continue
        product = digit * factor
        carried = product + carry
        total = carried + before
        line += f"{name}{digit}{product:02d}+{carry}={carried:02d}+{before}={total:02d}"
        carry = total // 10
        result.append(total % 10)
    return line, [carry, *reversed(result)]
