"""Texts from patterns: alternatives, slots, and typing errors.

A pattern contains alternatives, `[a|b]`, and slots, `{name}`. The patterns of a corpus are in a JSON file beside its
module. A list with the keys `train`, `test` and `both` is divided between the two splits, so that most texts of the
test split have patterns that no training row has.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

SplitName = Literal["train", "test"]
"""The part of a corpus: rows to train on, or rows to evaluate with."""

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z_]+)\}")
_LONG_WORD = re.compile(r"(?<![{\w])[a-z]{5,}(?![\w}])")


def load_patterns(name: str) -> Any:
    """Return the content of a JSON file of this package."""
    return json.loads((files(__package__) / name).read_text(encoding="utf-8"))


def in_split(entries: Mapping[str, list[Any]], split: SplitName) -> list[Any]:
    """Return the entries that may occur in a split."""
    return [*entries[split], *entries["both"]]


def fill(pattern: str, generator: random.Random, slots: Mapping[str, str] = {}, error_share: float = 0.0) -> str:
    """Return the text of a pattern: one of each group of alternatives, and the value of each slot.

    >>> fill("[Where|Here] is {item}", random.Random(3), {"item": "tea"})
    'Where is tea'

    Args:
        pattern: The pattern.
        generator: The source of randomness.
        slots: The value of each slot.
        error_share: Share of texts with a typing error outside of the slots.
    """
    chosen = _ALTERNATIVES.sub(lambda match: generator.choice(match[1].split("|")), pattern)
    if generator.random() < error_share:
        chosen = add_typing_error(chosen, generator)
    return _SLOT.sub(lambda match: slots[match[1]], chosen)


def add_typing_error(text: str, generator: random.Random) -> str:
    """Return an English text with one word misspelled: two letters swapped, one missing, or one doubled.

    Only lower-case words of five or more letters are changed. Names of slots and Chinese stay.
    """
    words = list(_LONG_WORD.finditer(text))
    if not words:
        return text
    word = generator.choice(words)
    position = word.start() + generator.randrange(1, len(word[0]) - 2)
    first, second = text[position], text[position + 1]
    changed = generator.choice((second + first, first, first + first + second))
    return text[:position] + changed + text[position + 2 :]
