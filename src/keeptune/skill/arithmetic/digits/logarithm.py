"""Logarithms looked up by heart, so that a power to the 99th is one short product.

    lg347=5403295                             the seven decimals of log10 3.47
    8412345 lg693=8407332< lg694=8413595>     the last number whose logarithm is not above these decimals is 693
Nine hundred facts, 1.00 to 9.99, are what a small model can keep; sixty steps in a row without a slip are not: of
functions worked as repeated products, in 3,000 tokens, none came out right (results/LOG.md). The first guess of the
second line may be off; the facts then go on, up or down, until the decimals lie between two of them.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from decimal import Decimal
from functools import cache
from zlib import crc32

DECIMALS = 7
"""Of every logarithm: 99 times half of the last one is a ninth of what the headline grader forgives."""

FIRST, LAST = 100, 999
"""What there are logarithms of, in hundredths."""


def has(number: Decimal) -> bool:
    """Whether there is a logarithm of its digits."""
    return len(number.normalize().as_tuple().digits) <= 3


def fact(number: int) -> str:
    """The line of one of them: `lg347=5403295`."""
    return f"lg{number}={decimals(number)}"


def decimals(number: int) -> str:
    """The decimals of its logarithm."""
    return _table()[number - FIRST]


def located(fraction: str) -> tuple[str, int]:
    """The line that finds the last number whose logarithm is not above these decimals, and that number."""
    found = FIRST - 1 + bisect_right(_table(), fraction)
    first = _guess(fraction, found)
    up, down = range(first, min(found + 1, LAST) + 1), range(first, found - 1, -1)
    asked = up if first <= found else down
    compared = (f" {fact(number)}{'<' if number <= found else '>'}" for number in asked)
    return fraction + "".join(compared), found


def recited(generator: random.Random) -> tuple[str, str]:
    """A line to practise the table with: what is given, and what is to be written behind it."""
    number = generator.randint(FIRST, LAST)
    if generator.random() < 0.6:
        return f"lg{number}=", decimals(number)
    following = int(_table()[number + 1 - FIRST]) if number < LAST else 10**DECIMALS
    fraction = f"{generator.randrange(int(decimals(number)), following):0{DECIMALS}d}"
    return fraction, located(fraction)[0].removeprefix(fraction)


def _guess(fraction: str, found: int) -> int:
    """The number to begin with: mostly the right one, else one or two beside it, as a model's guess will be."""
    drawn = crc32(fraction.encode()) % 16
    off = {0: -2, 1: -1, 2: 1, 3: 2}.get(drawn, 0)
    return min(LAST, max(FIRST, found + off))


@cache
def _table() -> list[str]:
    return [f"{(Decimal(number) / FIRST).log10():.{DECIMALS}f}"[2:] for number in range(FIRST, LAST + 1)]
