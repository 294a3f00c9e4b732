"""The format of solutions: their style, the spelling of numbers in their steps, and the rounding of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Style = Literal["raw", "answer", "rule", "longhand", "digits"]
"""How a solution is written: as in the data, the rounded answer alone, in sentences that state the rule, step by step,
or digit by digit."""

HalfRounding = Literal["up", "even"]
"""Direction in which a value exactly between two roundings goes: away from zero, or to the even one."""

Spelling = Literal["plain", "spaced", "grouped", "reversed"]
"""Spelling of the numbers in the steps of a solution: 1234.5, `1 2 3 4.5`, `1,234.5`, or `5.4321`."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """The rounding of a final answer: to `places` decimals, or to `digits` significant digits if they are set.

    Trailing zeros are dropped.
    """

    places: int = 2
    digits: int | None = None
    halves: HalfRounding = "up"
