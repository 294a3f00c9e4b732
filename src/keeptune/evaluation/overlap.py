"""Shared 13-grams between training texts and evaluation items: the usual test for contamination (Brown et al. 2020).

A unit is a word, or a Chinese character. Texts shorter than 13 units cannot overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keeptune.grading.chinese import HAN

NGRAM = 13
_UNIT = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")


def ngrams(text: str) -> Iterator[int]:
    """The hashes of all runs of 13 units of a text, in lower case and without punctuation."""
    units = _UNIT.findall(text.lower())
    return (hash(tuple(units[start : start + NGRAM])) for start in range(len(units) - NGRAM + 1))


def texts_in(value: Any) -> Iterator[str]:
    """All strings inside a value that JSON can hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for own in value.values():
            yield from texts_in(own)
    elif isinstance(value, Iterable):
        for own in value:
            yield from texts_in(own)


class NgramIndex:
    """Which items hold which 13-grams."""

    def __init__(self) -> None:
        self._items: dict[int, set[str]] = {}

    def add(self, item: str, text: str) -> None:
        """Adds the 13-grams of one text of an item."""
        for gram in ngrams(text):
            self._items.setdefault(gram, set()).add(item)

    def overlapping(self, texts: Iterable[str]) -> set[str]:
        """The items that share a 13-gram with one of the texts."""
        found: set[str] = set()
        for text in texts:
            for gram in ngrams(text):
                found |= self._items.get(gram, set())
        return found
