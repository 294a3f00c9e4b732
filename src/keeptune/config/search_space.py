"""The search space of a sweep: `train.learning_rate=3e-4..3e-3` is a range, `adapter.rank=4,8,16` a choice."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keeptune.errors import RecipeError

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_INTEGER = re.compile(r"[-+]?[0-9]+")

LOGARITHMIC_FROM = 10
"""A range is sampled logarithmically if its high end is at least this multiple of its low end."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """A recipe key and the values to try, as text in the form of --set."""

    key: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        """Returns the text that identifies the dimension in varied.json; it must not change."""
        return f"Choices(key={self.key!r}, values={self.values!r})"

    @property
    def bounds(self) -> tuple[str, ...]:
        """Values whose validity implies that of all values."""
        return self.values


@dataclass(frozen=True, slots=True)
class Range:
    """A recipe key and the numbers between which it is sampled; integers if both ends are integers."""

    key: str
    low: float
    high: float
    is_integer: bool

    def __str__(self) -> str:
        """Returns the text that identifies the dimension in varied.json; it must not change."""
        return f"Range(key={self.key!r}, low={self.low!r}, high={self.high!r}, whole={self.is_integer!r})"

    @property
    def is_logarithmic(self) -> bool:
        """Whether the logarithm is sampled uniformly."""
        return self.low > 0 and self.high >= LOGARITHMIC_FROM * self.low

    @property
    def bounds(self) -> tuple[str, ...]:
        """Values whose validity implies that of all values."""
        return self.text(self.low), self.text(self.high)

    def text(self, value: float) -> str:
        """Returns a number in the form of --set, with four significant digits."""
        return str(round(value)) if self.is_integer else f"{value:.4g}"


Dimension = Categorical | Range


def parse(text: str) -> Dimension:
    """Returns the dimension that `KEY=LOW..HIGH` or `KEY=A,B,…` describes.

    Raises:
        RecipeError: if the text has another form, or leaves nothing to vary.
    """
    key, separator, values = text.partition("=")
    if not separator or not key or not values:
        raise RecipeError(f"--vary {text}: use KEY=LOW..HIGH or KEY=A,B, such as --vary train.learning_rate=3e-4..3e-3")
    if match := _RANGE.fullmatch(values):
        low, high = float(match[1]), float(match[2])
        if not low < high:
            raise RecipeError(f"--vary {text}: the low end must be less than the high end")
        return Range(key, low, high, all(_INTEGER.fullmatch(end) for end in match.groups()))
    choices = tuple(dict.fromkeys(value.strip() for value in values.split(",")))
    if len(choices) < 2:
        raise RecipeError(f"--vary {text}: a single value leaves nothing to vary; give several, or use --set {text}")
    return Categorical(key, choices)


def settings(dimensions: tuple[Dimension, ...], sample: dict[str, str | float]) -> tuple[str, ...]:
    """Returns the sampled value of each dimension in the form of --set."""
    overrides = []
    for dimension in dimensions:
        value = sample[dimension.key]
        overrides.append(f"{dimension.key}={dimension.text(float(value)) if isinstance(dimension, Range) else value}")
    return tuple(overrides)
