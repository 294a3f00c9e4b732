"""Index of 13-grams that finds evaluation items in training texts: the usual contamination test (Brown et al. 2020).

A 13-gram is a run of 13 words or Chinese characters. Shorter texts cannot overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keeptune.grading.chinese import HAN

NGRAM = 13
_UNIT = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")


def ngrams(text: str) -> Iterator[int]:
    """The hashes of all 13-grams of a text, in lower case and without punctuation."""
    units = _UNIT.findall(text.lower())
    return (hash(tuple(units[start : start + NGRAM])) for start in range(len(units) - NGRAM + 1))


def texts_in(value: Any) -> Iterator[str]:
    """All strings in a JSON value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_in(part)
    elif isinstance(value, Iterable):
        for part in value:
            yield from texts_in(part)


class NgramIndex:
    """Maps the 13-grams of evaluation items to the names of the items."""

    def __init__(self) -> None:
        self._items: dict[int, set[str]] = {}

    def add(self, item: str, text: str) -> None:
        """Adds a text of an item."""
        for gram in ngrams(text):
            self._items.setdefault(gram, set()).add(item)

    def overlapping(self, texts: Iterable[str]) -> set[str]:
        """The items that share a 13-gram with at least one of the texts."""
        items: set[str] = set()
        for text in texts:
            for gram in ngrams(text):
                items |= self._items.get(gram, set())
        return items
