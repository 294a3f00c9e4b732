"""How solutions are written: their style, the spelling of numbers in their steps, and the rounding of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Style = Literal["raw", "answer", "rule", "longhand", "digits"]
"""How the solution is written: as the data set has it, the rounded answer alone, in sentences that state the rule,
step by step, or digit by digit."""

HalfRounding = Literal["up", "even"]
"""Where a number half-way between two goes when it is rounded: away from zero, or to the even one."""

Spelling = Literal["plain", "spaced", "grouped", "reversed"]
"""How numbers are spelled in the steps of a solution: 1234.5, `1 2 3 4.5`, `1,234.5`, or `5.4321`."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How a final answer is rounded: to `places` decimals, or to `digits` significant digits where they are given;
    trailing zeros are dropped."""

    places: int = 2
    digits: int | None = None
    halves: HalfRounding = "up"
