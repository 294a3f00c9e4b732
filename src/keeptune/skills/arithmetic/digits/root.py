"""First three digits of a square root, one by one, by the traditional method of extraction by hand.

    40-6*6=40-36=04
    048/12=3:c309+0=09,0-9=11b206+1=07,8-7=01a103+0=03,4-3=01,0-0=0111
    63+63=0126,0111:2,1<
The first digit is that of the root of the leading two of four digits. The remainder is extended by the next two digits:
0480. A trial finds the next digit d. Here 12 is twice the digits so far, and 123 is 12 followed by d = 3. The line
subtracts d times 123 in the columns of a quotient and ends with the remainder. The next line compares the remainder
with twice the digits so far, by the first two digits that differ. A larger remainder means that the digit is too small.

Three of ten trials are wrong on purpose. Such a trial ends with `-` for a negative remainder, or with `>` in the
comparison. The next line begins with the corrected digit: `2+1=3:c309+0=09…`. Without the comparison, one digit was off
by one in half of a model's wrong roots (results/LOG.md).
"""

from __future__ import annotations

import math

from keeptune.skills.arithmetic.digits.quotient import correct_trial, subtract_multiple, trial_digits


def first_digits(hundredths: int) -> tuple[list[str], int]:
    """Return the lines for a number of hundredths from 100.00 to 9,999.99, and its root in tenths."""
    whole, decimals = divmod(hundredths, 100)
    tenths = math.isqrt(hundredths)
    first, second, third = map(int, str(tenths))
    pair, next_pair = divmod(whole, 100)
    rest = pair - first * first
    lines = [f"{pair:02d}-{first}*{first}={pair:02d}-{first * first:02d}={rest:02d}"]
    lines += _find_digit(100 * rest + next_pair, first, second)
    rest = whole - (tenths // 10) ** 2
    return [*lines, *_find_digit(100 * rest + decimals, tenths // 10, third)], tenths


def _find_digit(left: int, root_digits: int, digit: int) -> list[str]:
    """Return the trials for the next digit of a root that begins with `root_digits`, up to the right one."""
    twice = f"{2 * root_digits:02d}"
    width = len(twice) + 2
    written = f"{left:0{width}d}"
    lines, begin = [], ""
    for trial in trial_digits(digit, int(written[:3]), int(twice), str(root_digits)):
        head, columns, rest = subtract_multiple(written, f"{twice}{trial}", trial)
        lines.append(f"{begin or head}{columns}{'-' if rest < 0 else f'{rest:0{width}d}'}")
        if rest >= 0:
            both = 10 * root_digits + trial
            doubled, remaining = f"{2 * both:0{width}d}", f"{rest:0{width}d}"
            lines.append(f"{both}+{both}={doubled},{remaining}:{_compare(doubled, remaining)}")
        begin = correct_trial(trial, 1 if trial < digit else -1)
    return lines


def _compare(doubled: str, remaining: str) -> str:
    """Return the first two digits that differ and the comparison: `2,1<`, or `<` alone if none differ."""
    pair = next(((one, other) for one, other in zip(doubled, remaining, strict=True) if one != other), None)
    if pair is None:
        return "<"
    return f"{pair[0]},{pair[1]}{'>' if pair[1] > pair[0] else '<'}"
