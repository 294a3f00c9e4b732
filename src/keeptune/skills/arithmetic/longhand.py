"""Calculations written out in steps that a small language model can execute one at a time.

Each function returns lines. Every line is a chain of statements that is true by itself; `check.py` evaluates it without
knowledge of these procedures. A step uses only a few digits, which appear shortly before it. Numbers have no spaces,
because a space costs a token and separates digits.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

SIGNIFICANT_DIGITS = 8
"""Digits of intermediate results of powers. After a hundred roundings the error is still far below 1 in 10,000."""

STEP_CONTEXT = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, flags=[])

COLUMNS = "abcdefghijklmnopqrstuvwxyz"
"""Names of the columns of an addition from the left. A model finds a name more easily than a position."""


def parts(number: int) -> list[int]:
    """Split a number into its round parts: 87 into 80 and 7, 100 into 100."""
    digits = str(number)
    round_numbers = [int(digit) * 10 ** (len(digits) - 1 - place) for place, digit in enumerate(digits) if digit != "0"]
    return round_numbers or [0]


def product(left: int, right: int) -> list[str]:
    """Return a product of small integers as products of their round parts, which are then added one by one.

    The layout is the same for every pair, even for 3*30=(3)*(30), because a model learns the most frequent layout best.

    87*45=(80+7)*(40+5)
    80*40=3200 … 7*5=35
    3200+400=3600 … 3880+35=3915
    """
    lefts, rights = parts(left), parts(right)
    lines = [f"{left}*{right}=({_sum(lefts)})*({_sum(rights)})"]
    partial = [(a, b) for a in lefts for b in rights]
    lines += [f"{a}*{b}={a * b}" for a, b in partial]
    return lines + running_sum([a * b for a, b in partial])


def running_sum(numbers: list[int]) -> list[str]:
    """Return the numbers added one by one: 20+12=32, 32+72=104, …"""
    lines, total = [], numbers[0]
    for number in numbers[1:]:
        lines.append(f"{total}+{number}={total + number}")
        total += number
    return lines


def quotient(dividend: int, divisor: int, decimals: int) -> list[str]:
    """Return a long division of nonnegative integers with `decimals` decimals, or fewer if it ends earlier.

    28/6=4r4              one digit of the result per line
    450-73*6=450-438=12   the same for a divisor above 10, with multiplication and subtraction
    287/6=47.833...       the joined digits, truncated and not rounded
    """
    digits, remainder, result = str(dividend), 0, ""
    lines: list[str] = []
    for place in range(len(digits) + decimals):
        if place == len(digits):
            result += "."
        current = 10 * remainder + (int(digits[place]) if place < len(digits) else 0)
        digit, remainder = divmod(current, divisor)
        leading = digit == 0 and not result and place < len(digits) - 1
        if not leading:
            result += str(digit)
            lines.append(_division_step(current, divisor, digit, remainder))
        if remainder == 0 and place >= len(digits) - 1:
            break
    return [*lines, f"{dividend}/{divisor}={result}{'...' if remainder else ''}"]


def _division_step(current: int, divisor: int, digit: int, remainder: int) -> str:
    if divisor <= 10:
        return f"{current}/{divisor}={digit}r{remainder}"
    return f"{current}-{divisor}*{digit}={current}-{divisor * digit}={remainder}"


def column_sum(left: int, right: int, decimals: int) -> list[str]:
    """Add two numbers column by column from the right; both count units of 10^-decimals.

    a30b87c25d86e40f58    the digits of both numbers by column
    f5+8+0=13             digit + digit + carry; the sum holds the next carry and the digit of the result
    """
    width = max(len(str(left)), len(str(right)), decimals + 1)
    columns = _columns(left, right, width)
    lines, carry = ["".join(f"{name}{a}{b}" for name, a, b in columns)], 0
    for name, a, b in reversed(columns):
        total = a + b + carry
        lines.append(f"{name}{a}+{b}+{carry}={total:02d}")
        carry = total // 10
    return lines


def column_difference(left: int, right: int, decimals: int) -> list[str]:
    """Subtract the smaller number from the larger one column by column; a borrowed ten precedes the digit.

    f15-8-0=7             the leading 1 means that the next step subtracts 1 more
    """
    width = max(len(str(left)), decimals + 1)
    columns = _columns(left, right, width)
    lines, borrowed = ["".join(f"{name}{a}{b}" for name, a, b in columns)], 0
    for name, a, b in reversed(columns):
        borrow = int(a - b - borrowed < 0)
        lines.append(f"{name}{borrow}{a}-{b}-{borrowed}={10 * borrow + a - b - borrowed}")
        borrowed = borrow
    return lines


def crossed_product(left: int, right: int) -> list[str]:
    """Return a product of long integers, one digit of the result per line.

    A line adds all digit products of one place and the carry.

    7*5+0=35+0=35
    8*5+7*4+3=40+28+3=68+3=71
    """
    width = max(len(str(left)), len(str(right)))
    lefts, rights = ([int(digit) for digit in reversed(f"{number:0{width}d}")] for number in (left, right))
    lines, carry = [], 0
    for place in range(2 * width - 1):
        pairs = [(lefts[i], rights[place - i]) for i in range(width) if 0 <= place - i < width]
        terms = [a * b for a, b in pairs] + [carry]
        chain = ["+".join(f"{a}*{b}" for a, b in pairs) + f"+{carry}", _sum(terms)]
        while len(terms) > 1:
            terms = [terms[0] + terms[1], *terms[2:]]
            chain.append(_sum(terms))
        lines.append("=".join(chain))
        carry = terms[0] // 10
    return [*lines, f"{left}*{right}={left * right}"]


def power(base: Decimal, exponent: int) -> tuple[list[str], Decimal]:
    """Return the lines of a power by squaring and multiplying, each rounded to eight digits, and the result.

    7.59*7.59~=57.6081
    57.6081*57.6081~=3318.6932
    """
    lines: list[str] = []
    result, first = base, str(base)
    text = first
    for bit in bin(exponent)[3:]:
        result, text = _rounded_product(result, text, result, text, lines)
        if bit == "1":
            result, text = _rounded_product(result, text, base, first, lines)
    return lines, result


def rounded_product(left: Decimal, right: Decimal) -> tuple[str, Decimal]:
    """Return the line of one product rounded to eight digits, and the result."""
    lines: list[str] = []
    result, _ = _rounded_product(left, significant(left), right, significant(right), lines)
    return lines[0], result


def root(hundredths: int, decimals: int) -> list[str]:
    """Return a square root digit by digit.

    Each line subtracts (20 · digits so far + digit) · digit from the remainder.

    61-7*7=12
    1245-148*8=61
    """
    text = str(hundredths)
    pairs = [int(pair) for pair in _pairs(text)] + [0] * (decimals - 1)
    lines, left, root_digits = [], 0, 0
    for pair in pairs:
        left = 100 * left + pair
        digit = max(d for d in range(10) if (20 * root_digits + d) * d <= left)
        taken = (20 * root_digits + digit) * digit
        lines.append(f"{left}-{20 * root_digits + digit}*{digit}={left}-{taken}={left - taken}")
        left, root_digits = left - taken, 10 * root_digits + digit
    return lines


def significant(value: Decimal) -> str:
    """Format a number with eight significant digits, and with an exponent if it is very large or very small."""
    number = STEP_CONTEXT.plus(value)
    if not number:
        return "0"
    exponent = number.adjusted()
    if -5 < exponent < SIGNIFICANT_DIGITS:
        return _trimmed(f"{number:f}")
    return f"{_trimmed(f'{STEP_CONTEXT.scaleb(number, -exponent):f}')}E{exponent:+d}"


def hundredths(units: int) -> str:
    """Format a number of hundredths as a decimal number."""
    return _trimmed(f"{units // 100}.{units % 100:02d}")


def _rounded_product(
    left: Decimal, left_text: str, right: Decimal, right_text: str, lines: list[str]
) -> tuple[Decimal, str]:
    result = STEP_CONTEXT.multiply(left, right)
    text = significant(result)
    lines.append(f"{left_text}*{right_text}~={text}")
    return result, text


def _trimmed(number: str) -> str:
    """Remove trailing zeros after the point."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def _columns(left: int, right: int, width: int) -> list[tuple[str, int, int]]:
    pairs = zip(f"{left:0{width}d}", f"{right:0{width}d}", strict=True)
    return [(COLUMNS[place], int(a), int(b)) for place, (a, b) in enumerate(pairs)]


def _pairs(digits: str) -> list[str]:
    padded = digits if len(digits) % 2 == 0 else "0" + digits
    return [padded[i : i + 2] for i in range(0, len(padded), 2)]


def _sum(terms: list[int]) -> str:
    return "+".join(map(str, terms))
