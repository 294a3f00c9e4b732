"""Digit-by-digit procedures for each kind of problem, in short lines with small steps.

Every function returns the lines of a solution and its answer. The answer is truncated where the steps end. It is not
rounded, because rounding would be one more step that can fail. Quotients, means and roots have three decimals or six
digits, products and powers seven or eight digits, and functions nine. That is always more than the headline grader
needs. The formats of the lines are described in columns.py, product.py, quotient.py and root.py. A first line such as
`+ - -` holds the signs of both numbers and the sign of the result. For sums, the third sign is the column operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from keeptune.skills.arithmetic.digits.columns import Operation, add_columns
from keeptune.skills.arithmetic.digits.numeral import PLAIN_PLACES, Numeral, with_sign
from keeptune.skills.arithmetic.digits.product import WIDTH, multiply_abridged, multiply_exactly
from keeptune.skills.arithmetic.digits.quotient import KEPT_PLACES, correct_trial, divide, format_prefix, trial_digits
from keeptune.skills.arithmetic.digits.root import first_digits

DECIMALS = 3
"""Decimals of truncated quotients, means and roots; the error is at most a fifth of the headline tolerance."""

MAX_QUOTIENT_DIGITS = 6
"""Most digits of a quotient, even if it then has fewer than three decimals."""

SMALL_EXPONENT = 5
"""Powers up to this exponent, the largest of the data set, use factors with as many digits as products."""

FUNCTION_WIDTH = WIDTH + 1
"""Digits of a function's factors. Truncation errors multiply with the exponent: with one digit less, every eighth
function would be wrong."""

FUNCTION_DIGITS = 3
"""Digits of x in the data set."""

POWER_WIDTH = WIDTH + 2
"""Digits of the factors for longer numbers and for higher powers than those of the data set."""

LARGEST_EXPONENT = 100
"""Largest exponent; such a function takes about 6,000 tokens. Higher powers do not occur and would need more digits."""

LARGEST_RADICAND = 10_000
"""Largest number whose root has a digit procedure."""


class DigitSolution(NamedTuple):
    """The lines of a digit-by-digit solution, and its answer."""

    lines: list[str]
    answer: str


def addition(left: Decimal, right: Decimal) -> DigitSolution:
    """Return the sum of two numbers with two decimals, in columns; for a difference, invert the sign of `right`."""
    operation: Operation = "+" if left.is_signed() == right.is_signed() else "-"
    first, second = _to_hundredths(left), _to_hundredths(right)
    width = max(len(first), len(second), 6)
    total = add_columns(first.zfill(width), second.zfill(width), operation, decimals=2)
    negative = (right if total.is_negative else left).is_signed()
    answer = Numeral(total.digits, len(total.digits) - 2).format()
    return DigitSolution([f"{_sign(left)} {_sign(right)} {operation}", *total.lines], with_sign(negative, answer))


def multiplication(left: Decimal, right: Decimal) -> DigitSolution:
    """Return the abridged product of two numbers, with one digit less if the product of the first digits has two."""
    if not left or not right:
        return DigitSolution([], "0")
    first, second = _to_numeral(left), _to_numeral(right)
    is_large = int(first.digits[0]) * int(second.digits[0]) >= 10
    lines, product = multiply_abridged(first, second, WIDTH - 1 if is_large else WIDTH)
    return DigitSolution(
        [_product_signs(left, right), *lines], with_sign(left.is_signed() != right.is_signed(), product.format())
    )


def division(left: Decimal, right: Decimal) -> DigitSolution:
    """Return the truncated quotient of two numbers."""
    if not left:
        return DigitSolution([], "0")
    lines, answer = _divide_numerals(_to_numeral(left), _to_numeral(right))
    return DigitSolution(
        [_product_signs(left, right), *lines], with_sign(left.is_signed() != right.is_signed(), answer)
    )


def is_written_out(left: Decimal, right: Decimal) -> bool:
    """Whether the quotient of two numbers needs no exponent."""
    return not left or _to_numeral(left).places - _to_numeral(right).places >= -PLAIN_PLACES


def equation(slope: int, intercept: int) -> DigitSolution:
    """Return the x of slope · x + intercept = 0."""
    if not intercept:
        return DigitSolution([], "0")
    negative = (slope < 0) == (intercept < 0)
    lines, answer = _divide_numerals(Numeral.of(str(abs(intercept))), Numeral.of(str(abs(slope))))
    signs = f"{_sign(slope)} {_sign(intercept)} {'-' if negative else '+'}"
    return DigitSolution([signs, *lines], with_sign(negative, answer))


def discount(before: int, after: int) -> DigitSolution:
    """Return the reduction from `before` to `after` in percent."""
    if before == after:
        return DigitSolution([], "0")
    width = max(len(str(before)), len(str(after)))
    reduction = add_columns(str(before).zfill(width), str(after).zfill(width), "-")
    lines, answer = _divide_numerals(Numeral.of(reduction.digits), Numeral.of(str(before)), shift=2)
    return DigitSolution([*reduction.lines, *lines], with_sign(reduction.is_negative, answer))


def sales(before: int, percent: int) -> DigitSolution:
    """Return sales after a growth of `percent` percent."""
    share = 100 + percent
    lines, digits = multiply_exactly(str(share), str(before), decimals=2)
    return DigitSolution([f"100+{percent}={share}", *lines], Numeral(digits, len(digits) - 2).format())


def area(length: int, width: int) -> DigitSolution:
    """Return a product of two integers, also used for a mass (density times volume)."""
    lines, digits = multiply_exactly(str(length), str(width))
    return DigitSolution(lines, Numeral(digits, len(digits)).format())


def mean(values: Sequence[int]) -> DigitSolution:
    """Return the mean of integers: count them, add all tens and all ones side by side, then divide.

    A line of the division ends with the remainder, the divisor and their comparison (`<` or `>`), or with `-` for a
    negative remainder. Three of ten trials are wrong on purpose. The next line then begins with the corrected digit:
    `4+1=5:`.
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
        begin = format_prefix(digits, len(str(total)))
        for trial in trial_digits(right, current, len(values), digits):
            lines.append(begin + _format_short_trial(current, len(values), trial))
            begin = correct_trial(trial, 1 if trial < right else -1)
        digits += str(right)
    return DigitSolution(lines, Numeral(digits, len(digits) - DECIMALS).format())


def _format_short_trial(number: int, divisor: int, digit: int) -> str:
    subtraction = f"{number}-{digit}*{divisor}={number}-{digit * divisor}="
    rest = number - digit * divisor
    return subtraction + ("-" if rest < 0 else f"{rest},{divisor}{'<' if rest < divisor else '>'}")


def power(base: Decimal, exponent: int) -> DigitSolution:
    """Return a power by squaring and multiplying."""
    negative = base.is_signed() and exponent % 2 == 1
    lines = [f"{_sign(base)} {exponent} {'-' if negative else '+'}"]
    if not exponent or not base:
        return DigitSolution(lines, "0" if exponent else "1")
    if exponent == 1:
        return DigitSolution(lines, str(base))
    power_lines, result = _raise_to_power(
        _to_numeral(base), exponent, WIDTH if exponent <= SMALL_EXPONENT else POWER_WIDTH
    )
    return DigitSolution([*lines, *power_lines], with_sign(negative, result.format()))


def function(x: Decimal, coefficient: int, exponent: int) -> DigitSolution:
    """Return a power of x times the coefficient."""
    if not x:
        return DigitSolution([], "0")
    base = _to_numeral(x)
    width = FUNCTION_WIDTH if len(base.digits) <= FUNCTION_DIGITS else POWER_WIDTH
    lines, raised = _raise_to_power(base, exponent, width)
    left = raised.shorten() if exponent > 1 else raised
    product_lines, result = multiply_abridged(left, Numeral.of(str(coefficient)), width)
    return DigitSolution([f"{coefficient}*{x}^{exponent}", *lines, str(coefficient), *product_lines], result.format())


def _raise_to_power(base: Numeral, exponent: int, width: int) -> tuple[list[str], Numeral]:
    """Return the intermediate exponents, found from the last one down to 1, and then one product per exponent.

    A line such as `5,10,21:4+1=5` precedes each product. It lists the remaining exponents and how the first one follows
    from the previous one. The next such line drops the first exponent, so the model need not remember its progress.
    """
    lines, exponents, result = [], [exponent], base
    while exponents[0] > 1:
        derivation, earlier = _halve_or_decrement(exponents[0])
        exponents = [earlier, *exponents]
        lines.append(f"{derivation}:{_join(exponents)}")
    for place, (before, total) in enumerate(pairwise(exponents), start=1):
        left = result.shorten() if before > 1 else base
        product_lines, result = multiply_abridged(left, left if total == 2 * before else base, width)
        lines += [f"{_join(exponents[place:])}:{before}+{total - before}={total}", *product_lines]
    return lines, result


def _halve_or_decrement(exponent: int) -> tuple[str, int]:
    """Return the derivation of the previous exponent, and that exponent.

    It is an odd exponent minus one, `97-1`, or half of an even one. Exponents with two or more digits are halved digit
    by digit: `96:9-4*2=1,16-8*2=0`.
    """
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


def _join(exponents: Sequence[int]) -> str:
    return ",".join(map(str, exponents))


def square_root(number: Decimal) -> DigitSolution:
    """Return a root: its first three digits one by one (root.py), then the rest by one division.

    A number below 100 is shifted by pairs of digits until it has three or four digits before the point. Larger numbers
    would lose accuracy. The remainder over twice the root so far approximates the rest of the root, because the square
    of that rest is negligible.
    """
    if not number:
        return DigitSolution([], "0")
    if number == LARGEST_RADICAND:
        return DigitSolution([], "100")
    shifted, exponent = number, 0
    while shifted < 100:
        shifted, exponent = shifted * 100, exponent - 1
    hundredths = int(shifted * 100)
    root_lines, tenths = first_digits(hundredths)
    divisor = str(2 * tenths)
    left = f"{hundredths - tenths * tenths:0{len(divisor)}d}"
    division_lines, digits = divide(left, divisor, DECIMALS, whole=0)
    root = Decimal(tenths).scaleb(-1)
    answer = root + Decimal(int(digits)).scaleb(-DECIMALS)
    restated = f"{hundredths // 100:04d}.{hundredths % 100:02d}" + (f"E{exponent:+d}" if exponent else "")
    return DigitSolution(
        [restated, *root_lines, *division_lines, f"{root}+0.{digits}={answer}"], f"{answer.scaleb(exponent):f}"
    )


def _divide_numerals(left: Numeral, right: Numeral, shift: int = 0) -> tuple[list[str], str]:
    """Return the lines of left / right · 10^shift, and the quotient."""
    places = left.places - right.places + shift
    count = max(1, min(MAX_QUOTIENT_DIGITS, 1 + DECIMALS + places))
    kept = KEPT_PLACES if count > 1 + DECIMALS else KEPT_PLACES - 1
    width = min(kept, max(len(left.digits), len(right.digits.rstrip("0"))))
    whole = 1 + places
    lines, digits = divide(left.resize(width).digits, right.resize(width).digits, count, whole, kept)
    head = f"{left.places}-{right.places}{f'+{shift}' if shift else ''}={places}"
    return [lines[0], head, *lines[1:]], Numeral(digits, whole).format()


def _to_numeral(number: Decimal) -> Numeral:
    return Numeral.of(f"{abs(number)}")


def _to_hundredths(number: Decimal) -> str:
    return str(int(abs(number) * 100))


def _product_signs(left: Decimal, right: Decimal) -> str:
    """Return the signs of two numbers, and the sign of their product or quotient."""
    return f"{_sign(left)} {_sign(right)} {'-' if left.is_signed() != right.is_signed() else '+'}"


def _sign(number: Decimal | int) -> str:
    return "-" if number < 0 or (isinstance(number, Decimal) and number.is_signed()) else "+"
