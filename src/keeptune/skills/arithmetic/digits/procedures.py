"""How each kind of problem is worked digit by digit: short, and one small step at a time.

Every function returns the lines of a solution, and the number that they come to, which is the answer as it is
written: it is cut off where the steps end, and not rounded, for that would be one more step to get wrong. Quotients,
means and roots have three decimals or six digits, products and powers seven or eight, functions nine; always more than
the headline grader asks for. What a line says is described in columns.py, product.py, quotient.py and root.py. A first
line such as `+ - -` holds the signs of both numbers and then that of the result; in a sum the last is what is done with
the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from keeptune.skills.arithmetic.digits.columns import Operation, combined
from keeptune.skills.arithmetic.digits.numeral import PLAIN_PLACES, Numeral, signed
from keeptune.skills.arithmetic.digits.product import WIDTH, abridged, exact
from keeptune.skills.arithmetic.digits.quotient import KEPT_PLACES, corrected, quotient, so_far, trials
from keeptune.skills.arithmetic.digits.root import first_digits

DECIMALS = 3
"""Decimals of quotients, means and roots, cut off: a fifth of what the headline grader forgives at most."""

MOST_DIGITS = 6
"""Digits of a quotient, where three decimals would be more."""

SMALL_EXPONENT = 5
"""Powers up to this one, which are all that the data set has, are worked with factors of as many digits as products."""

FUNCTION_WIDTH = WIDTH + 1
"""Digits of a function's factors: what a product cuts off is cut off as often as it is a factor of the power. With one
digit fewer every eighth function would be wrong."""

FUNCTION_DIGITS = 3
"""Digits of an x as the data set has it."""

POWER_WIDTH = WIDTH + 2
"""The same for numbers of more digits than these, raised to higher powers than the data set has."""

LARGEST_EXPONENT = 100
"""Functions up to this one take some 6,000 tokens; higher powers are in no data set, and would need more digits."""

LARGEST_RADICAND = 10_000
"""Roots of larger numbers are not worked digit by digit."""


class DigitSolution(NamedTuple):
    """The lines of a solution, and its answer."""

    lines: list[str]
    answer: str


def addition(left: Decimal, right: Decimal) -> DigitSolution:
    """The sum of two numbers with two decimals, in columns; the second with the sign that makes it a sum."""
    operation: Operation = "+" if left.is_signed() == right.is_signed() else "-"
    first, second = _hundredths(left), _hundredths(right)
    width = max(len(first), len(second), 6)
    total = combined(first.zfill(width), second.zfill(width), operation, decimals=2)
    negative = (right if total.is_negative else left).is_signed()
    answer = Numeral(total.digits, len(total.digits) - 2).text()
    return DigitSolution([f"{_sign(left)} {_sign(right)} {operation}", *total.lines], signed(negative, answer))


def multiplication(left: Decimal, right: Decimal) -> DigitSolution:
    """The product of two numbers, abridged: with a digit less where their first digits' product has two already."""
    if not left or not right:
        return DigitSolution([], "0")
    first, second = _numeral(left), _numeral(right)
    is_large = int(first.digits[0]) * int(second.digits[0]) >= 10
    lines, product = abridged(first, second, WIDTH - 1 if is_large else WIDTH)
    return DigitSolution([_signs(left, right), *lines], signed(left.is_signed() != right.is_signed(), product.text()))


def division(left: Decimal, right: Decimal) -> DigitSolution:
    """The quotient of two numbers, cut off."""
    if not left:
        return DigitSolution([], "0")
    lines, answer = _quotient(_numeral(left), _numeral(right))
    return DigitSolution([_signs(left, right), *lines], signed(left.is_signed() != right.is_signed(), answer))


def is_written_out(left: Decimal, right: Decimal) -> bool:
    """Whether their quotient needs no exponent."""
    return not left or _numeral(left).places - _numeral(right).places >= -PLAIN_PLACES


def equation(slope: int, intercept: int) -> DigitSolution:
    """The x of slope · x + intercept = 0."""
    if not intercept:
        return DigitSolution([], "0")
    negative = (slope < 0) == (intercept < 0)
    lines, answer = _quotient(Numeral.of(str(abs(intercept))), Numeral.of(str(abs(slope))))
    signs = f"{_sign(slope)} {_sign(intercept)} {'-' if negative else '+'}"
    return DigitSolution([signs, *lines], signed(negative, answer))


def discount(before: int, after: int) -> DigitSolution:
    """How many percent of `before` were taken off to get `after`."""
    if before == after:
        return DigitSolution([], "0")
    width = max(len(str(before)), len(str(after)))
    taken_off = combined(str(before).zfill(width), str(after).zfill(width), "-")
    lines, answer = _quotient(Numeral.of(taken_off.digits), Numeral.of(str(before)), shift=2)
    return DigitSolution([*taken_off.lines, *lines], signed(taken_off.is_negative, answer))


def sales(before: int, percent: int) -> DigitSolution:
    """Sales that grew by so many percent."""
    share = 100 + percent
    lines, digits = exact(str(share), str(before), decimals=2)
    return DigitSolution([f"100+{percent}={share}", *lines], Numeral(digits, len(digits) - 2).text())


def area(length: int, width: int) -> DigitSolution:
    """A product of two integers; that of a density and a volume is worked in the same way."""
    lines, digits = exact(str(length), str(width))
    return DigitSolution(lines, Numeral(digits, len(digits)).text())


def mean(values: Sequence[int]) -> DigitSolution:
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
    return DigitSolution(lines, Numeral(digits, len(digits) - DECIMALS).text())


def _short_trial(number: int, divisor: int, digit: int) -> str:
    taken = f"{number}-{digit}*{divisor}={number}-{digit * divisor}="
    rest = number - digit * divisor
    return taken + ("-" if rest < 0 else f"{rest},{divisor}{'<' if rest < divisor else '>'}")


def power(base: Decimal, exponent: int) -> DigitSolution:
    """A power by squaring and multiplying."""
    negative = base.is_signed() and exponent % 2 == 1
    lines = [f"{_sign(base)} {exponent} {'-' if negative else '+'}"]
    if not exponent or not base:
        return DigitSolution(lines, "0" if exponent else "1")
    if exponent == 1:
        return DigitSolution(lines, str(base))
    written, result = _powered(_numeral(base), exponent, WIDTH if exponent <= SMALL_EXPONENT else POWER_WIDTH)
    return DigitSolution([*lines, *written], signed(negative, result.text()))


def function(x: Decimal, coefficient: int, exponent: int) -> DigitSolution:
    """A power of x, worked as one, and its product with the coefficient."""
    if not x:
        return DigitSolution([], "0")
    base = _numeral(x)
    width = FUNCTION_WIDTH if len(base.digits) <= FUNCTION_DIGITS else POWER_WIDTH
    lines, raised = _powered(base, exponent, width)
    left = raised.leading() if exponent > 1 else raised
    written, result = abridged(left, Numeral.of(str(coefficient)), width)
    return DigitSolution([f"{coefficient}*{x}^{exponent}", *lines, str(coefficient), *written], result.text())


def _powered(base: Numeral, exponent: int, width: int) -> tuple[list[str], Numeral]:
    """The exponents on the way to the last one, found from there down to 1, and then a product for each.

    A line such as `5,10,21:4+1=5` stands before each product: the exponents that are still to come, and how the first
    of them is made of the one before. The next line's exponents are these without the first, so that nobody has to
    remember how far the work has come.
    """
    lines, exponents, result = [], [exponent], base
    while exponents[0] > 1:
        written, earlier = _made_from(exponents[0])
        exponents = [earlier, *exponents]
        lines.append(f"{written}:{_joined(exponents)}")
    for place, (before, total) in enumerate(pairwise(exponents), start=1):
        left = result.leading() if before > 1 else base
        written_product, result = abridged(left, left if total == 2 * before else base, width)
        lines += [f"{_joined(exponents[place:])}:{before}+{total - before}={total}", *written_product]
    return lines, result


def _made_from(exponent: int) -> tuple[str, int]:
    """The exponent before this one, and what says so: one less than an odd one, `97-1`; half of an even one, and digit
    by digit where it has more than one, `96:9-4*2=1,16-8*2=0`."""
    if exponent % 2:
        return f"{exponent}-1", exponent - 1
    if exponent < 10:
        return str(exponent), exponent // 2
    steps, rest = [], 0
    for digit in str(exponent):
        current = 10 * rest + int(digit)
        rest = current % 2
        steps.append(f"{current}-{current // 2}*2={rest}")
    return f"{exponent}:{','.join(steps)}", exponent // 2


def _joined(exponents: Sequence[int]) -> str:
    return ",".join(map(str, exponents))


def square_root(number: Decimal) -> DigitSolution:
    """A root: its first three digits one by one (root.py), and then what their square leaves over twice what they make.

    A number below 100 is moved by pairs of digits until it has three or four before its point; there may not be more,
    for the steps are not exact enough then. What is left over twice the three digits is nearly the rest of the root:
    its own square is neglected.
    """
    if not number:
        return DigitSolution([], "0")
    if number == LARGEST_RADICAND:
        return DigitSolution([], "100")
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
    return DigitSolution([restated, *found, *written, f"{root}+0.{digits}={answer}"], f"{answer.scaleb(exponent):f}")


def _quotient(left: Numeral, right: Numeral, shift: int = 0) -> tuple[list[str], str]:
    """The lines of left / right · 10^shift, and the quotient."""
    places = left.places - right.places + shift
    count = max(1, min(MOST_DIGITS, 1 + DECIMALS + places))
    kept = KEPT_PLACES if count > 1 + DECIMALS else KEPT_PLACES - 1
    width = min(kept, max(len(left.digits), len(right.digits.rstrip("0"))))
    whole = 1 + places
    lines, digits = quotient(left.cut(width).digits, right.cut(width).digits, count, whole, kept)
    head = f"{left.places}-{right.places}{f'+{shift}' if shift else ''}={places}"
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
