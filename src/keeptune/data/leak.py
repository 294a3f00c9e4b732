"""Whether what is trained on gives away what is scored.

Source of the 13-gram rule: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

GRAM_WORDS = 13

_WORD = re.compile(r"\w+")


def shared_problems(*parts: Iterable[str]) -> set[str]:
    """The identities that occur in more than one part."""
    seen: set[str] = set()
    shared: set[str] = set()
    for part in map(set, parts):
        shared |= seen & part
        seen |= part
    return shared


def overlapping(rows: Iterable[str], retained: Iterable[str]) -> int:
    """How many rows share 13 words in sequence with a retained text, letter case and punctuation aside."""
    known_words: set[str] = set()
    known: set[tuple[str, ...]] = set()
    for text in retained:
        words = _words(text)
        known_words.update(words)
        known.update(_grams(words))
    return sum(_overlaps(_words(row), known_words, known) for row in rows)


def _overlaps(words: list[str], known_words: set[str], known: set[tuple[str, ...]]) -> bool:
    # Most rows hardly have a word in common with the retained texts, so no sequences are built for them.
    if sum(map(known_words.__contains__, words)) < GRAM_WORDS:
        return False
    return any(gram in known for gram in _grams(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + GRAM_WORDS]) for start in range(len(words) - GRAM_WORDS + 1))
