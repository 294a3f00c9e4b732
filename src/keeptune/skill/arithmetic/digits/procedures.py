"""How each kind of problem is worked digit by digit: short, and one small step at a time.

Every function returns the lines of a solution, and the number that they come to, which is the answer as it is
written: it is cut off where the steps end, and not rounded, for that would be one more step to get wrong. Quotients,
means and roots have three decimals or six digits, products and powers seven or eight; always more than the headline
grader asks for. What a line says is described in columns.py, product.py, quotient.py and root.py. A first line such as
`+ - -` holds the signs of both numbers and then that of the result; in a sum the last is what is done with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from keeptune.skill.arithmetic.digits.columns import Operation, combined
from keeptune.skill.arithmetic.digits.numeral import Numeral, signed
from keeptune.skill.arithmetic.digits.product import WIDTH, abridged, exact
from keeptune.skill.arithmetic.digits.quotient import KEPT_PLACES, corrected, quotient, so_far, trials
from keeptune.skill.arithmetic.digits.root import first_digits

DECIMALS = 3
"""Decimals of quotients, means and roots, cut off: a fifth of what the headline grader forgives at most."""

MOST_DIGITS = 6
"""Digits of a quotient, where three decimals would be more."""

MORE_DIGITS = (2.5, 15, 150, 1_500)
"""A product on the way to a power is worked with one digit more for each of these that it is a factor of it more often.

Found by trying, with exponents up to 99.
"""

LARGEST_EXPONENT = 100
"""Functions of higher powers would take more than 5,000 tokens."""

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
    """The mean of integers: counted, all tens and all ones added up side by side, then divided.

    A line of the division ends with what is left, the divisor, and whether it is less (`<`, `>`), or with `-` for below
    zero. Where it does not fit, as three in ten on purpose, the next line begins with what is tried instead: `4+1=5:`.
    """
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
        right, rest = divmod(current, len(values))
        begin = so_far(digits, len(str(total)))
        for one in trials(right, current, len(values), digits):
            lines.append(begin + _short_trial(current, len(values), one))
            begin = corrected(one, 1 if one < right else -1)
        digits += str(right)
    return Worked(lines, Numeral(digits, len(digits) - DECIMALS).text())


def _short_trial(number: int, divisor: int, digit: int) -> str:
    taken = f"{number}-{digit}*{divisor}={number}-{digit * divisor}="
    rest = number - digit * divisor
    return taken + ("-" if rest < 0 else f"{rest},{divisor}{'<' if rest < divisor else '>'}")


def power(base: Decimal, exponent: int) -> Worked:
    """A power by squaring and multiplying."""
    negative = base.is_signed() and exponent % 2 == 1
    lines = [f"{_sign(base)} {exponent} {'-' if negative else '+'}"]
    if not exponent or not base:
        return Worked(lines, "0" if exponent else "1")
    if exponent == 1:
        return Worked(lines, str(base))
    written, result = _powered(_numeral(base), exponent)
    return Worked([*lines, *written], signed(negative, result.text()))


def function(x: Decimal, coefficient: int, exponent: int) -> Worked:
    """A power of x, worked as one, and its product with the coefficient."""
    if not x:
        return Worked([], "0")
    lines, raised = _powered(_numeral(x), exponent)
    left = raised.leading() if exponent > 1 else raised
    written, result = abridged(left, Numeral.of(str(coefficient)))
    return Worked([f"{coefficient}*{x}^{exponent}", *lines, str(coefficient), *written], result.text())


def _powered(base: Numeral, exponent: int) -> tuple[list[str], Numeral]:
    """The exponent halved until it is 1, and from there back: each half doubled, and one more where it was odd.

    A line such as `5:2+2=4` stands before each product: what the exponent is to come to next, and what it comes to now.
    """
    halves = [exponent >> shift for shift in range(exponent.bit_length())]
    lines, result = [":".join(map(_halved, halves))] if exponent > 1 else [], base
    for target, reached, added in _products(halves):
        left = result.leading() if reached > 1 else base
        right = base if added == 1 else left
        written, result = abridged(left, right, _width(exponent, reached + added))
        lines += [f"{target}:{reached}+{added}={reached + added}", *written]
    return lines, result


def _halved(number: int) -> str:
    """A number, and where it has more digits than one, how each is halved: `97:9-4*2=1,17-8*2=1`."""
    if number < 10:
        return str(number)
    steps, rest = [], 0
    for digit in str(number):
        current = 10 * rest + int(digit)
        rest = current % 2
        steps.append(f"{current}-{current // 2}*2={rest}")
    return f"{number}:{','.join(steps)}"


def _products(halves: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Every product on the way back: the half it is for, the exponent before it, and what it adds to that."""
    for half, target in pairwise(reversed(halves)):
        yield target, half, half
        if target % 2:
            yield target, 2 * half, 1


def _width(exponent: int, reached: int) -> int:
    """Digits of a factor: what a product loses in its last digit is lost as often as it is a factor of the power."""
    return WIDTH + sum(exponent > times * reached for times in MORE_DIGITS)


def square_root(number: Decimal) -> Worked:
    """A root: its first three digits one by one (root.py), and then what their square leaves over twice what they make.

    A number below 100 is moved by pairs of digits until it has three or four before its point; there may not be more,
    for the steps are not exact enough then. What is left over twice the three digits is nearly the rest of the root:
    its own square is neglected.
    """
    if not number:
        return Worked([], "0")
    if number == LARGEST_RADICAND:
        return Worked([], "100")
    moved, exponent = number, 0
    while moved < 100:
        moved, exponent = moved * 100, exponent - 1
    hundredths = int(moved * 100)
    found, tenths = first_digits(hundredths)
    divisor = str(2 * tenths)
    left = f"{hundredths - tenths * tenths:0{len(divisor)}d}"
    written, digits = quotient(left, divisor, DECIMALS, whole=0)
    root = Decimal(tenths).scaleb(-1)
    answer = root + Decimal(int(digits)).scaleb(-DECIMALS)
    restated = f"{hundredths // 100:04d}.{hundredths % 100:02d}" + (f"E{exponent:+d}" if exponent else "")
    return Worked([restated, *found, *written, f"{root}+0.{digits}={answer}"], f"{answer.scaleb(exponent):f}")


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


def _hundredths(number: Decimal) -> str:
    return str(int(abs(number) * 100))


def _signs(left: Decimal, right: Decimal) -> str:
    """The signs of two numbers, and that of their product or quotient."""
    return f"{_sign(left)} {_sign(right)} {'-' if left.is_signed() != right.is_signed() else '+'}"


def _sign(number: Decimal | int) -> str:
    return "-" if number < 0 or (isinstance(number, Decimal) and number.is_signed()) else "+"
