"""Whether what is trained on gives away what is scored.

Source of the 13-gram rule: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

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
    known = {gram for text in retained for gram in _grams(text)}
    return sum(any(gram in known for gram in _grams(row)) for row in rows)


def _grams(text: str) -> Iterator[Sequence[str]]:
    words = _WORD.findall(text.lower())
    return (tuple(words[start : start + GRAM_WORDS]) for start in range(len(words) - GRAM_WORDS + 1))
