"""How each kind of problem is worked digit by digit: short, and one small step at a time.

Every function returns the lines of a solution, and the number that they come to, which is the answer as it is
written: it is cut off where the steps end, and not rounded, for that would be one more step to get wrong. Quotients,
means and roots have three decimals or six digits, products and powers seven or eight; always more than the headline
grader asks for. What a line says is described in columns.py, product.py and quotient.py. A first line such as `+ - -`
holds the signs of both numbers and then that of the result; in a sum the last is what is done with the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from keeptune.skill.arithmetic.digits.columns import Operation, combined
from keeptune.skill.arithmetic.digits.numeral import Numeral, signed
from keeptune.skill.arithmetic.digits.product import WIDTH, abridged, exact
from keeptune.skill.arithmetic.digits.quotient import KEPT_PLACES, quotient, so_far, trial

DECIMALS = 3
"""Decimals of quotients, means and roots, cut off: a fifth of what the headline grader forgives at most."""

MOST_DIGITS = 6
"""Digits of a quotient, where three decimals would be more."""

LARGEST_RADICAND = 10_000
"""Roots of larger numbers are not worked digit by digit."""


class Worked(NamedTuple):
    """The lines of a solution, and its answer."""

    lines: list[str]
    answer: str


def addition(left: Decimal, right: Decimal) -> Worked:
    """The sum of two numbers with two decimals, in columns; the second with the sign that makes it a sum."""
    operation: Operation = "+" if left.is_signed() == right.is_signed() else "-"
    first, second = _hundredths(left), _hundredths(right)
    width = max(len(first), len(second), 6)
    total = combined(first.zfill(width), second.zfill(width), operation, decimals=2)
    negative = (right if total.is_negative else left).is_signed()
    answer = Numeral(total.digits, len(total.digits) - 2).text()
    return Worked([f"{_sign(left)} {_sign(right)} {operation}", *total.lines], signed(negative, answer))


def multiplication(left: Decimal, right: Decimal) -> Worked:
    """The product of two numbers, abridged: with a digit less where their first digits' product has two already."""
    first, second = _numeral(left), _numeral(right)
    is_large = int(first.digits[:1] or 0) * int(second.digits[:1] or 0) >= 10
    lines, product = abridged(first, second, WIDTH - 1 if is_large else WIDTH)
    answer = product.text() if left and right else "0"
    return Worked([_signs(left, right), *lines], signed(left.is_signed() != right.is_signed(), answer))


def division(left: Decimal, right: Decimal) -> Worked:
    """The quotient of two numbers, cut off."""
    if not left:
        return Worked([], "0")
    lines, answer = _quotient(_numeral(left), _numeral(right))
    return Worked([_signs(left, right), *lines], signed(left.is_signed() != right.is_signed(), answer))


def equation(slope: int, intercept: int) -> Worked:
    """The x of slope · x + intercept = 0."""
    if not intercept:
        return Worked([], "0")
    negative = (slope < 0) == (intercept < 0)
    lines, answer = _quotient(Numeral.of(str(abs(intercept))), Numeral.of(str(abs(slope))))
    signs = f"{_sign(slope)} {_sign(intercept)} {'-' if negative else '+'}"
    return Worked([signs, *lines], signed(negative, answer))


def discount(before: int, after: int) -> Worked:
    """How many percent of `before` were taken off to get `after`."""
    if before == after:
        return Worked([], "0")
    width = max(len(str(before)), len(str(after)))
    taken_off = combined(str(before).zfill(width), str(after).zfill(width), "-")
    lines, answer = _quotient(Numeral.of(taken_off.digits), Numeral.of(str(before)), shift=2)
    return Worked([*taken_off.lines, *lines], signed(taken_off.is_negative, answer))


def sales(before: int, percent: int) -> Worked:
    """Sales that grew by so many percent."""
    share = 100 + percent
    lines, digits = exact(str(share), str(before), decimals=2)
    return Worked([f"100+{percent}={share}", *lines], Numeral(digits, len(digits) - 2).text())


def area(length: int, width: int) -> Worked:
    """A product of two integers."""
    lines, digits = exact(str(length), str(width))
    return Worked(lines, Numeral(digits, len(digits)).text())


def mean(values: Sequence[int]) -> Worked:
    """The mean of integers: counted, all tens and all ones added up side by side, then divided."""
    tens = ones = 0
    parts = []
    for count, value in enumerate(values, start=1):
        ten, one = divmod(value, 10)
        parts.append(f"{count}:{value}:{tens}+{ten}={tens + ten},{ones}+{one}={ones + one}")
        tens, ones = tens + ten, ones + one
    total = sum(values)
    lines = [" ".join(parts), f"{tens}+{ones // 10}={tens + ones // 10}", f"{total}"]
    digits, rest = "", 0
    for digit in str(total) + "0" * DECIMALS:
        current = 10 * rest + int(digit)
        one, rest = divmod(current, len(values))
        lines.append(f"{so_far(digits, len(str(total)))}{current}/{len(values)}={one}r{rest}")
        digits += str(one)
    return Worked(lines, Numeral(digits, len(digits) - DECIMALS).text())


def power(base: Decimal, exponent: int) -> Worked:
    """A power by squaring and multiplying, each with what the exponent comes to by it."""
    negative = base.is_signed() and exponent % 2 == 1
    lines = [f"{_sign(base)} {exponent} {'-' if negative else '+'}"]
    if not exponent or not base:
        return Worked(lines, "0" if exponent else "1")
    if exponent == 1:
        return Worked(lines, str(base))
    # Each product loses a little of its last digit, and a power as much as all its factors together.
    width = WIDTH + (exponent > 5) + (exponent > 50) + (exponent > 500)
    first = result = _numeral(base)
    reached = 1
    for bit in bin(exponent)[3:]:
        factor = result.leading() if reached > 1 else first
        written, result = abridged(factor, factor, width)
        lines += [f"{reached}+{reached}={2 * reached}", *written]
        reached *= 2
        if bit == "1":
            written, result = abridged(result.leading(), first, width)
            lines += [f"{reached}+1={reached + 1}", *written]
            reached += 1
    return Worked(lines, signed(negative, result.text()))


def square_root(number: Decimal) -> Worked:
    """A root: an integer near it digit by digit, and then what the integer's square leaves over twice the root.

    A number below 100 is moved by pairs of digits until it has three or four before its point; there may not be more,
    for the steps are not exact enough then. The integer's first digit is that of the first pair of digits; its second
    one, d, is found by a trial, and d · (20 · first + d) taken off. What is left of the number is
    (2 · integer + rest) · rest, so the rest is what is left over twice the integer and the rest itself, which is near
    enough with one decimal and a half. The integer need not be the largest whose square fits: where it is close to the
    root, the one below is taken, so that a model that misjudges a close case can still end right.
    """
    if not number:
        return Worked([], "0")
    if number == LARGEST_RADICAND:
        return Worked([], "100")
    moved, exponent = number, 0
    while moved < 100:
        moved, exponent = moved * 100, exponent - 1
    hundredths = int(moved * 100)
    whole, decimals = divmod(hundredths, 100)
    tenths = math.isqrt(hundredths)
    # From 39 to 50 the integer below would leave over a number of more digits than the divisor.
    root = tenths // 10 if 390 <= tenths < 503 else max(10, (4 * tenths - 10) // 40)
    estimate = 10 * (tenths - 10 * root) + 5
    divisor = 200 * root + estimate
    left = hundredths - 100 * root * root
    written, digits = quotient(str(left).zfill(len(str(divisor))), str(divisor), 1 + DECIMALS, kept=5)
    answer = Decimal(root * 1000 + int(digits)).scaleb(-DECIMALS)
    return Worked(
        [
            f"{whole:04d}.{decimals:02d}" + (f"E{exponent:+d}" if exponent else ""),
            *_integer_root(whole, root),
            f"{root}+{root}={2 * root}",
            f"{2 * root}+{_hundredth(estimate)}={_hundredth(divisor)}",
            *written,
            f"{root}+{digits[0]}.{digits[1:]}={answer}",
        ],
        f"{answer.scaleb(exponent):f}",
    )


def _integer_root(number: int, root: int) -> list[str]:
    """The two digits of the integer `root`, and what its square leaves of a number with four digits."""
    pair, next_pair = divmod(number, 100)
    first, second = divmod(root, 10)
    rest = pair - first * first
    left, divisor = f"{100 * rest + int(next_pair):04d}", f"{20 * first + second:03d}"
    return [
        f"{pair:02d}-{first}*{first}={pair:02d}-{first * first:02d}={rest:02d}",
        trial(left, divisor, second),
    ]


def _quotient(left: Numeral, right: Numeral, shift: int = 0) -> tuple[list[str], str]:
    """The lines of left / right · 10^shift, and the quotient."""
    places = left.places - right.places
    count = max(1, min(MOST_DIGITS, 1 + DECIMALS + places + shift))
    kept = KEPT_PLACES if count > 1 + DECIMALS else KEPT_PLACES - 1
    width = min(kept, max(len(left.digits), len(right.digits.rstrip("0"))))
    whole = 1 + places + shift
    lines, digits = quotient(left.cut(width).digits, right.cut(width).digits, count, whole, kept)
    head = f"{left.places}-{right.places}={places}"
    return [lines[0], head, *lines[1:]], Numeral(digits, whole).text()


def _numeral(number: Decimal) -> Numeral:
    return Numeral.of(f"{abs(number)}")


def _hundredth(hundredths: int) -> Decimal:
    return Decimal(hundredths).scaleb(-2)


def _hundredths(number: Decimal) -> str:
    return str(int(abs(number) * 100))


def _signs(left: Decimal, right: Decimal) -> str:
    """The signs of two numbers, and that of their product or quotient."""
    return f"{_sign(left)} {_sign(right)} {'-' if left.is_signed() != right.is_signed() else '+'}"


def _sign(number: Decimal | int) -> str:
    return "-" if number < 0 or (isinstance(number, Decimal) and number.is_signed()) else "+"
