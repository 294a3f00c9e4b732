"""Logarithms looked up by heart, so that a power to the 99th is one short product.

    3.47:lg347=5403295                                       the seven decimals of log10 3.47
    8412345 lg693=8407332<8412345 lg694=8413595>8412345      the last number whose logarithm is not above is 693
Nine hundred facts, 1.00 to 9.99, are what a small model can keep; sixty steps in a row without a slip are not: of
functions worked as repeated products, in 3,000 tokens, none came out right (results/LOG.md). A number is copied before
it is looked up, and decimals before they are compared, for what is fetched and changed at once goes wrong. The first
guess of the second line may be off: the next one is beside it, or elsewhere where it was far off.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from decimal import Decimal
from functools import cache
from zlib import crc32

from keeptune.skill.arithmetic.digits.numeral import Numeral

DECIMALS = 7
"""Of every logarithm: 99 times half of the last one is a ninth of what the headline grader forgives."""

FIRST, LAST = 100, 999
"""What there are logarithms of, in hundredths."""


def has(number: Decimal) -> bool:
    """Whether there is a logarithm of its digits."""
    return len(number.normalize().as_tuple().digits) <= 3


def fact(number: int) -> str:
    """One of them: `lg347=5403295`."""
    return f"lg{number}={decimals(number)}"


def looked_up(number: str) -> tuple[str, str]:
    """The line that looks up the digits of a number, as it is written in the problem: `3.47:lg347=5403295`; and what
    was found."""
    hundredths = int(Numeral.of(number).cut(3).digits)
    return f"{number}:{fact(hundredths)}", decimals(hundredths)


def decimals(number: int) -> str:
    """The decimals of its logarithm."""
    return _table()[number - FIRST]


def located(fraction: str) -> tuple[str, int]:
    """The line that finds the last number whose logarithm is not above these decimals, and that number."""
    found = FIRST - 1 + bisect_right(_table(), fraction)
    asked = _guesses(fraction, found)
    return fraction + "".join(f" {fact(one)}{'<' if one <= found else '>'}{fraction}" for one in asked), found


def recited(generator: random.Random) -> tuple[str, str]:
    """A line to practise the table with: what is given, and what is to be written behind it."""
    number, sort = generator.randint(FIRST, LAST), generator.random()
    if sort < 0.4:
        return f"lg{number}=", decimals(number)
    if sort < 0.5:
        written = generator.choice([str(generator.randint(1, 99)), f"{Decimal(number) / 100:.2f}", f"0.{number}"])
        return f"{written}:", looked_up(written)[0].removeprefix(f"{written}:")
    following = int(_table()[number + 1 - FIRST]) if number < LAST else 10**DECIMALS
    fraction = f"{generator.randrange(int(decimals(number)), following):0{DECIMALS}d}"
    return fraction, located(fraction)[0].removeprefix(fraction)


def _guesses(fraction: str, found: int) -> list[int]:
    """The numbers to look at, the last two those that the decimals lie between.

    The first one is mostly right, else one or two beside it, as a model's guess will be, or far off; from there the
    next guess is right.
    """
    drawn = crc32(fraction.encode()) % 32
    off = {0: -2, 1: -1, 2: -1, 3: 1, 4: 1, 5: 2, 6: -20, 7: -5, 8: 5, 9: 20}.get(drawn, 0)
    first = min(LAST, max(FIRST, found + off))
    if abs(first - found) > 2:
        return [first, *_guesses_beside(found, found)]
    return _guesses_beside(first, found)


def _guesses_beside(first: int, found: int) -> list[int]:
    """Up to the first number whose logarithm is above, or down to the last one whose is not."""
    return list(range(first, min(found + 1, LAST) + 1) if first <= found else range(first, found - 1, -1))


@cache
def _table() -> list[str]:
    return [f"{(Decimal(number) / FIRST).log10():.{DECIMALS}f}"[2:] for number in range(FIRST, LAST + 1)]
