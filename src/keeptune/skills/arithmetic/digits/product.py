"""Long multiplication with one line per digit of the right factor, from its last digit to its first.

    u3b412+0=12+1=13a515+1=16+2=18
is the line of the right factor's digit u, which is 3. It has one part per digit of the left factor, from the right:
    b4        the name and the digit
    12        its product with 3
    +0=12     plus the carry
    +1=13     plus the digit that the previous line left in this place
The last digit of the part stays in this place, and its first digit is the next carry. Each step joins only two numbers,
which a small model learns far sooner than three at once.

An abridged product first states the position of its point. `4+2=6e` is the sixth place including the carry, after digit
e. `6+6=12E` is outside the digits, so the number has an exponent. The position is repeated before the listing, which
ends with the number of places, minus 1 if the carry is 0: `6e` and `0a6b5c8d0e4.f1g2=5`; `12E` and
`1a6b5c8d0e4f1g2=12E11`. Without this, nearly every wrong product of a model had the right digits and a wrong point,
because the model had to count digits or to remember the letter over all lines (results/LOG.md).

A line begins in the last place that is kept. In an abridged product, each line therefore has one digit more than the
previous one. The line of a digit 0 only repeats the digits of the previous line. After the last line, the product is
listed from its first digit, `1a8b3v6`: the last carry, the digits of the last line, and the final digits of earlier
lines.
"""

from __future__ import annotations

from keeptune.skills.arithmetic.digits.numeral import Numeral, far_names, names

WIDTH = 6
"""Most digits of a right factor; a left factor has one more, padded with zeros. The error is far below 1 in 10,000."""


def multiply_exactly(left: str, right: str, decimals: int = 0) -> tuple[list[str], str]:
    """Return the lines of a product of two integers, and its digits, of which the last `decimals` follow the point."""
    labels, right_labels = names(len(left)), far_names(len(right))
    lines, digits = _lines(left, right, whole=True)
    result = Numeral(digits, len(digits) - decimals).list_digits(("", *labels, *right_labels[1:]))
    return [Numeral(left, 0).list_digits(labels), Numeral(right, 0).list_digits(right_labels), *lines, result], digits


def multiply_abridged(left: Numeral, right: Numeral, width: int = WIDTH) -> tuple[list[str], Numeral]:
    """Return the lines of the product of two numbers, truncated after width + 2 digits, and the product.

    The last one or two digits are too small, because later places are never computed.
    """
    left, right = left.resize(width + 1), right.resize(min(len(right.digits), width))
    lines, digits = _lines(left.digits, right.digits, whole=False)
    product = Numeral(digits, left.places + right.places)
    place = product.point_label()
    factors = [left.list_digits(names(width + 1)), right.list_digits(far_names(len(right.digits)))]
    position = f"{_add_places(left.places, right.places)}={place}"
    return [*factors, position, *lines, place, product.list_with_point()], product


def _add_places(left: int, right: int) -> str:
    """Format a sum of places.

    If one of them has two digits, ones and tens are added first: `47+5:7+5=12,40+0=40:40+12` or
    `-19+1:-9+1=-8,-10+0=-10:-10-8`. All operands are visible. In an earlier form, `14+2=10+6`, the model had to find
    the 6 itself, and most wrong functions failed there (results/LOG.md).
    """
    if max(abs(left), abs(right)) < 10:
        return f"{left}+{right}"
    tens_left, tens_right = 10 * int(left / 10), 10 * int(right / 10)
    ones_left, ones_right = left - tens_left, right - tens_right
    tens, ones = tens_left + tens_right, ones_left + ones_right
    return f"{left}+{right}:{ones_left}+{ones_right}={ones},{tens_left}+{tens_right}={tens}:{tens}{ones:+d}"


def _lines(left: str, right: str, whole: bool) -> tuple[list[str], str]:
    lines: list[str] = []
    previous, last_digits = [0] * (len(left) + 1), ""
    for place in range(len(right) - 1, -1, -1):
        used = len(left) if whole else min(len(left), len(left) - place)
        line, previous = _line(left[:used], int(right[place]), previous)
        lines.append(f"{far_names(len(right))[place]}{right[place]}{line}")
        if whole and place:
            last_digits = f"{previous[-1]}{last_digits}"
    return lines, "".join(map(str, previous)) + last_digits


def _line(left: str, factor: int, previous: list[int]) -> tuple[str, list[int]]:
    """Return one line and its digits: the carry, then one digit per digit of `left`.

    `previous[i]` is the digit of the previous line in the place of digit i. Each line is one place further left.
    """
    line, result, carry = "", [], 0
    for place in range(len(left) - 1, -1, -1):
        name, digit, before = names(len(left))[place], int(left[place]), previous[place]
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
