"""The first three digits of a square root, one by one, by hand as it was taught before there were machines.

    40-6*6=40-36=04
    048/12=3:c309+0=09,0-9=11b206+1=07,8-7=01a103+0=03,4-3=01,0-0=0111
    63+63=0126,0111:2,1<
The first digit is that of the root of the first two digits of a number with four. What its square leaves of them
moves on with the next two: 0480. The next digit, d, is found by a trial: 12 is twice what has been found, 123 is that
and d, and is taken off d times, in the columns of a quotient. The line ends with what is left; the next one compares
that with twice the digits found so far, by the first two digits that differ: were it more, the digit would be too
small.

A trial that does not fit, as three in ten do on purpose, ends with `-` for below zero, or the comparison with `>`; the
next line begins with what is tried instead: `2+1=3:c309+0=09…`. Before there was a comparison, a digit was one off in
half of the roots that a model got wrong (results/LOG.md).
"""

from __future__ import annotations

import math

from keeptune.skills.arithmetic.digits.quotient import corrected, taken_off, trials


def first_digits(hundredths: int) -> tuple[list[str], int]:
    """The lines for a number from 100 to 9,999.99 that is so many hundredths, and so many tenths of its root."""
    whole, decimals = divmod(hundredths, 100)
    tenths = math.isqrt(hundredths)
    first, second, third = map(int, str(tenths))
    pair, next_pair = divmod(whole, 100)
    rest = pair - first * first
    lines = [f"{pair:02d}-{first}*{first}={pair:02d}-{first * first:02d}={rest:02d}"]
    lines += _next(100 * rest + next_pair, first, second)
    rest = whole - (tenths // 10) ** 2
    return [*lines, *_next(100 * rest + decimals, tenths // 10, third)], tenths


def _next(left: int, found: int, digit: int) -> list[str]:
    """The next digit of a root whose digits so far are `found`: trials up to the one that fits."""
    twice = f"{2 * found:02d}"
    width = len(twice) + 2
    written = f"{left:0{width}d}"
    lines, begin = [], ""
    for one in trials(digit, int(written[:3]), int(twice), str(found)):
        head, columns, rest = taken_off(written, f"{twice}{one}", one)
        lines.append(f"{begin or head}{columns}{'-' if rest < 0 else f'{rest:0{width}d}'}")
        if rest >= 0:
            both = 10 * found + one
            doubled, remaining = f"{2 * both:0{width}d}", f"{rest:0{width}d}"
            lines.append(f"{both}+{both}={doubled},{remaining}:{_compared(doubled, remaining)}")
        begin = corrected(one, 1 if one < digit else -1)
    return lines


def _compared(doubled: str, remaining: str) -> str:
    """The first two digits that differ, and how what is left compares: `2,1<`, or `<` alone where none do."""
    pair = next(((one, other) for one, other in zip(doubled, remaining, strict=True) if one != other), None)
    if pair is None:
        return "<"
    return f"{pair[0]},{pair[1]}{'>' if pair[1] > pair[0] else '<'}"
