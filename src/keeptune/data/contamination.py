"""Whether what is trained on gives away what is scored.

Source of the 13-gram rule: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C. A Chinese character
counts as a word: thirteen of them are some eight words, so that in Chinese too much is reported rather than too little.
Every function reads the training rows once and holds only what is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from keeptune.data.normalization import letters, normalised, words

GRAM_WORDS = 13

Match = Literal["exact", "spelling", "twin", "overlap"]
"""How a problem is a forbidden one: the same text, the same but for its spelling, a twin, or 13 words in sequence."""


class Problem(NamedTuple):
    """A problem, and the text that it shares with the problems that give it away."""

    kind: str
    text: str
    twin: str


@dataclass(frozen=True, slots=True)
class Leaks:
    """How many training rows give away what is scored; by kind, kinds without any left out.

    `retained_overlap` rows share 13 words in sequence with a reading question or its passage, and `held_overlap`
    problems with a problem of dev or test; the latter is asked of kinds in free text only, since all problems of the
    other kinds share their words. `held_twins` problems have a twin in dev or test.
    """

    retained_overlap: int
    retained_overlap_by_kind: dict[str, int] = field(default_factory=dict)
    held_overlap_by_kind: dict[str, int] = field(default_factory=dict)
    held_twins_by_kind: dict[str, int] = field(default_factory=dict)


def find_leaks(
    train: Sequence[Problem], held: Sequence[Problem], free: Container[str], from_retained: Mapping[str, int]
) -> Leaks:
    """The leaks from training problems to those of dev and test. `free` are the kinds in free text; `from_retained` is
    `overlap_by_kind` of the training rows with the retained texts."""
    return Leaks(
        retained_overlap=sum(from_retained.values()),
        retained_overlap_by_kind=dict(sorted(from_retained.items())),
        held_overlap_by_kind=overlap_by_kind(
            ((problem.kind, problem.text) for problem in train if problem.kind in free),
            (problem.text for problem in held if problem.kind in free),
        ),
        held_twins_by_kind=shared_by_kind(
            ((problem.kind, problem.twin) for problem in train), (problem.twin for problem in held)
        ),
    )


def overlap_by_kind(rows: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, int]:
    """How many rows, (kind, text) pairs, share 13 words in sequence with a known text: by kind, where there are any.
    Letter case, punctuation and the spelling of numbers do not count."""
    grams = _Grams()
    for text in known:
        grams.add(text)
    return _sorted(Counter(kind for kind, text in rows if grams.overlap(text)))


def shared_by_kind(rows: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, int]:
    """How many rows, (kind, identity) pairs, have one of the known identities: by kind, where there are any."""
    identities = set(known)
    return _sorted(Counter(kind for kind, identity in rows if identity in identities))


def shared_problems(*parts: Iterable[str]) -> set[str]:
    """The identities that occur in more than one part."""
    seen: set[str] = set()
    shared: set[str] = set()
    for part in map(set, parts):
        shared |= seen & part
        seen |= part
    return shared


class _Grams:
    """All sequences of 13 words in some texts."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._grams: set[tuple[str, ...]] = set()
        # Every sequence has a word of letters in it that is in this set, or the set is not asked.
        self._letters: set[str] = set()
        self._all_have_letters = True

    def add(self, text: str) -> None:
        found = words(text)
        self._words.update(found)
        self._letters.update(letters(text))
        for sequence in _sequences(found):
            self._grams.add(sequence)
            self._all_have_letters &= any(letters(word) for word in sequence)

    def overlap(self, text: str) -> bool:
        # Most rows are digits, which are found out without taking all their words apart.
        if self._all_have_letters and self._letters.isdisjoint(letters(text)):
            return False
        # Every sequence has exactly one of these places in it, so where their words are unknown nothing is compared.
        found = words(text)
        for place in range(GRAM_WORDS - 1, len(found), GRAM_WORDS):
            if found[place] in self._words:
                around = found[place - GRAM_WORDS + 1 : place + GRAM_WORDS]
                if not self._grams.isdisjoint(_sequences(around)):
                    return True
        return False


class Forbidden:
    """Problems that must not be trained on, and whether another problem is one of them."""

    def __init__(self, problems: Iterable[Problem], free_text: Container[str]) -> None:
        """13 words in sequence are looked for in the kinds `free_text` only."""
        self._free_text = free_text
        self._texts: set[str] = set()
        self._spellings: set[str] = set()
        self._twins: set[str] = set()
        self._known = _Grams()
        for problem in problems:
            self._texts.add(problem.text)
            self._spellings.add(normalised(problem.text))
            self._twins.add(problem.twin)
            if problem.kind in free_text:
                self._known.add(problem.text)

    def match(self, problem: Problem) -> Match | None:
        """The closest way in which a problem is one of these, or None."""
        if problem.text in self._texts:
            return "exact"
        if normalised(problem.text) in self._spellings:
            return "spelling"
        if problem.twin in self._twins:
            return "twin"
        return "overlap" if problem.kind in self._free_text and self._known.overlap(problem.text) else None


def _sequences(found: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(found[start:] for start in range(GRAM_WORDS)), strict=False)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
