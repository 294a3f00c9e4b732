"""Detects overlap between training problems and the problems and texts that are used for scoring.

The 13-gram rule is from Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C. A Chinese character
counts as a word. Thirteen characters are about eight words, so overlap in Chinese is over-reported, not under-reported.
Every function reads the training rows once and keeps only the scored texts in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from keeptune.data.normalization import letter_runs, normalize, split_words

GRAM_WORDS = 13

Match = Literal["exact", "spelling", "canonical_form", "overlap"]
"""How a problem matches a forbidden one: the same text, the same text in another spelling, the same canonical form, or
13 consecutive words in common."""


class Problem(NamedTuple):
    """A problem with its canonical form, which is the same for all problems that reveal each other's answer."""

    kind: str
    text: str
    canonical_form: str


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """The number of training rows that overlap with scored texts, per kind. Kinds without overlap are omitted."""

    retained_overlap: int
    """Rows that share 13 consecutive words with a reading question or its passage."""
    retained_overlap_by_kind: dict[str, int] = field(default_factory=dict)
    held_overlap_by_kind: dict[str, int] = field(default_factory=dict)
    """Rows that share 13 consecutive words with a problem of dev or test. Only free-text kinds are checked, because all
    problems of the other kinds have the same words."""
    held_twins_by_kind: dict[str, int] = field(default_factory=dict)
    """Rows with the canonical form of a problem in dev or test."""


def report_contamination(
    train: Sequence[Problem],
    held_out: Sequence[Problem],
    free_text: Container[str],
    retained_overlap: Mapping[str, int],
) -> ContaminationReport:
    """Report the overlap between the training problems and the held-out problems of dev and test.

    Args:
        free_text: the free-text kinds.
        retained_overlap: the result of `count_overlap_by_kind` for the training rows and the texts of the reading set.
    """
    return ContaminationReport(
        retained_overlap=sum(retained_overlap.values()),
        retained_overlap_by_kind=dict(sorted(retained_overlap.items())),
        held_overlap_by_kind=count_overlap_by_kind(
            ((problem.kind, problem.text) for problem in train if problem.kind in free_text),
            (problem.text for problem in held_out if problem.kind in free_text),
        ),
        held_twins_by_kind=count_shared_by_kind(
            ((problem.kind, problem.canonical_form) for problem in train),
            (problem.canonical_form for problem in held_out),
        ),
    )


def count_overlap_by_kind(rows: Iterable[tuple[str, str]], known_texts: Iterable[str]) -> dict[str, int]:
    """Count the rows, given as (kind, text), that share 13 consecutive words with a known text.

    Letter case, punctuation and the spelling of numbers are ignored. Kinds without such rows are omitted.
    """
    grams = _Grams()
    for text in known_texts:
        grams.add(text)
    return _sort_by_kind(Counter(kind for kind, text in rows if grams.overlaps(text)))


def count_shared_by_kind(rows: Iterable[tuple[str, str]], known_keys: Iterable[str]) -> dict[str, int]:
    """Count the rows, given as (kind, key), whose key is a known one. Kinds without such rows are omitted."""
    keys = set(known_keys)
    return _sort_by_kind(Counter(kind for kind, key in rows if key in keys))


def find_shared_keys(*groups: Iterable[str]) -> set[str]:
    """Return the keys that occur in more than one group."""
    seen: set[str] = set()
    shared: set[str] = set()
    for group in map(set, groups):
        shared |= seen & group
        seen |= group
    return shared


class _Grams:
    """All sequences of 13 consecutive words in a set of texts."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._grams: set[tuple[str, ...]] = set()
        # If every sequence contains a letter run, a text without any of these letter runs cannot overlap.
        self._letter_runs: set[str] = set()
        self._all_have_letters = True

    def add(self, text: str) -> None:
        words = split_words(text)
        self._words.update(words)
        self._letter_runs.update(letter_runs(text))
        for gram in _sequences(words):
            self._grams.add(gram)
            self._all_have_letters &= any(letter_runs(word) for word in gram)

    def overlaps(self, text: str) -> bool:
        # Most rows are digits only; this check excludes them without splitting them into words.
        if self._all_have_letters and self._letter_runs.isdisjoint(letter_runs(text)):
            return False
        # Every sequence contains exactly one of these positions, so sequences around unknown words need no comparison.
        words = split_words(text)
        for position in range(GRAM_WORDS - 1, len(words), GRAM_WORDS):
            if words[position] in self._words:
                around = words[position - GRAM_WORDS + 1 : position + GRAM_WORDS]
                if not self._grams.isdisjoint(_sequences(around)):
                    return True
        return False


class ContaminationFilter:
    """Recognizes problems that must not be trained on."""

    def __init__(self, problems: Iterable[Problem], free_text: Container[str]) -> None:
        """Store the forbidden problems. Only the `free_text` kinds are compared by 13 consecutive words."""
        self._free_text = free_text
        self._texts: set[str] = set()
        self._normalized: set[str] = set()
        self._canonical_forms: set[str] = set()
        self._grams = _Grams()
        for problem in problems:
            self._texts.add(problem.text)
            self._normalized.add(normalize(problem.text))
            self._canonical_forms.add(problem.canonical_form)
            if problem.kind in free_text:
                self._grams.add(problem.text)

    def match(self, problem: Problem) -> Match | None:
        """Return the closest way in which a problem matches a forbidden one, or None."""
        if problem.text in self._texts:
            return "exact"
        if normalize(problem.text) in self._normalized:
            return "spelling"
        if problem.canonical_form in self._canonical_forms:
            return "canonical_form"
        return "overlap" if problem.kind in self._free_text and self._grams.overlaps(problem.text) else None


def _sequences(words: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(GRAM_WORDS)), strict=False)


def _sort_by_kind(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
