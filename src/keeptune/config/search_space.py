"""What a sweep varies: `train.learning_rate=3e-4..3e-3` or `adapter.rank=4,8,16`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keeptune.errors import RecipeError

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_INTEGER = re.compile(r"[-+]?[0-9]+")

LOGARITHMIC_FROM = 10
"""A range whose ends are so many times apart is drawn from by its logarithm: rates, not shares."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A setting and the values that it can have, as they would stand behind --set."""

    key: str
    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """Values that must be possible if all are to be."""
        return self.values


@dataclass(frozen=True, slots=True)
class Range:
    """A setting and the numbers between which it is; whole ones if both ends are written as such."""

    key: str
    low: float
    high: float
    whole: bool

    @property
    def logarithmic(self) -> bool:
        """Whether it is drawn from by its logarithm."""
        return self.low > 0 and self.high >= LOGARITHMIC_FROM * self.low

    @property
    def ends(self) -> tuple[str, ...]:
        """Values that must be possible if all are to be."""
        return self.text(self.low), self.text(self.high)

    def text(self, value: float) -> str:
        """A number as it would stand behind --set: four digits are enough for a setting."""
        return str(round(value)) if self.whole else f"{value:.4g}"


Vary = Choices | Range


def parse(text: str) -> Vary:
    """What `KEY=LOW..HIGH` or `KEY=A,B,…` varies. errors: RecipeError."""
    key, separator, values = text.partition("=")
    if not separator or not key or not values:
        raise RecipeError(f"--vary {text}: write KEY=LOW..HIGH or KEY=A,B, e.g. --vary train.learning_rate=3e-4..3e-3")
    if match := _RANGE.fullmatch(values):
        low, high = float(match[1]), float(match[2])
        if not low < high:
            raise RecipeError(f"--vary {text}: the lower end must come first, and differ from the upper one")
        return Range(key, low, high, all(_INTEGER.fullmatch(end) for end in match.groups()))
    choices = tuple(dict.fromkeys(value.strip() for value in values.split(",")))
    if len(choices) < 2:
        raise RecipeError(f"--vary {text}: one value leaves nothing to try; give several, or use --set {text}")
    return Choices(key, choices)


def settings(varied: tuple[Vary, ...], drawn: dict[str, str | float]) -> tuple[str, ...]:
    """What was drawn for each, as it would stand behind --set."""
    return tuple(
        f"{vary.key}={vary.text(float(drawn[vary.key])) if isinstance(vary, Range) else drawn[vary.key]}"
        for vary in varied
    )
