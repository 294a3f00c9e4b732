"""Graders that compare texts: `exact`, `contains`, `f1` and `regex`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from keeptune.grading.base import Grade, Grader, GraderError
from keeptune.grading.squad import score_squad_v11
from keeptune.grading.timed_patterns import fullmatch, pattern_fault, search

Step = Literal["width", "space", "punctuation", "articles", "final_stop", "case"]

_QUOTES = str.maketrans("“”„‟‘’‚‛「」『』", '""""\'\'\'\'""""')

_STEPS: dict[Step, Callable[[str], str]] = {
    "width": lambda text: unicodedata.normalize("NFKC", text).translate(_QUOTES),
    "punctuation": lambda text: "".join(
        " " if unicodedata.category(character)[0] == "P" else character for character in text
    ),
    "articles": lambda text: re.sub(r"\b(?:a|an|the)\b", " ", text, flags=re.IGNORECASE),
    "space": lambda text: re.sub(r"\s+", " ", text).strip(),
    "final_stop": lambda text: text.rstrip(".。"),
    "case": str.casefold,
}
"""The steps of normalization, in the order in which they are applied."""


def normalize(text: str, steps: tuple[Step, ...]) -> str:
    """Return the text after the given steps, in the fixed order of `_STEPS`.

    Letters with accents are composed first (NFC), because the two encodings of `é` are the same text.
    """
    text = unicodedata.normalize("NFC", text)
    for step, apply in _STEPS.items():
        if step in steps:
            text = apply(text)
    return text


class Exact(Grader):
    """Equality of texts after the declared normalization."""

    name: ClassVar[str] = "exact"

    normalize: tuple[Step, ...] = Field(
        ("space", "final_stop", "case"),
        description="what is ignored: `width` (full-width forms, curly quotes), `punctuation`, `articles`, `space` "
        "(runs of spaces count as one), `final_stop`, `case`; empty: compare every character",
    )

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        return Grade(float(normalize(answer, self.normalize) == normalize(truth, self.normalize)), answer)


class Contains(Grader):
    """Whether the answer contains the truth, ignoring case."""

    name: ClassVar[str] = "contains"

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        steps: tuple[Step, ...] = ("case",)
        return Grade(float(normalize(truth, steps) in normalize(answer, steps)), answer)


class F1(Grader):
    """The F1 of SQuAD v1.1 over words (Rajpurkar et al. 2016)."""

    name: ClassVar[str] = "f1"
    is_binary: ClassVar[bool] = False

    def check_truth(self, truth: str, problem: str = "") -> None:
        if score_squad_v11(truth, [truth]).f1 < 1:
            raise GraderError(f"the answer has no word to compare: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        scores = score_squad_v11(answer, [truth])
        return Grade(scores.f1, answer, {"exact_match": scores.em})


class Regex(Grader):
    """Whether the answer matches a pattern.

    Without `pattern`, the truth is the pattern, and the whole answer must match it. With `pattern`, the first match in
    the answer must capture the same texts as the first match in the truth. A pattern that takes more than 2 seconds
    does not match.
    """

    name: ClassVar[str] = "regex"

    pattern: str | None = Field(None, description="regular expression whose groups (or match) must be equal")
    ignore_case: bool = Field(False, description="ignore case in the pattern and in captured texts")

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None and (fault := pattern_fault(pattern)):
            raise ValueError(f"must be a valid regular expression: {fault}")
        return pattern

    def check_truth(self, truth: str, problem: str = "") -> None:
        if self.pattern is None:
            if fault := pattern_fault(truth):
                raise GraderError(f"the answer is not a valid regular expression: {fault}")
        elif self._captured(truth) is None:
            raise GraderError(f"the pattern does not match the answer: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        if self.pattern is None:
            return Grade(float(_is_fullmatch(truth, answer, self.ignore_case)), answer)
        captured = self._captured(answer)
        is_right = captured is not None and captured == self._captured(truth)
        return Grade(float(is_right), answer, {"captured": captured and list(captured)})

    def _captured(self, text: str) -> tuple[str | None, ...] | None:
        assert self.pattern is not None
        try:
            match = search(self.pattern, text, self.ignore_case)
        except TimeoutError:
            return None
        if match is None:
            return None
        texts = match.groups() or (match[0],)
        return tuple(one.casefold() if one and self.ignore_case else one for one in texts)


def _is_fullmatch(pattern: str, text: str, ignore_case: bool) -> bool:
    try:
        return pattern_fault(pattern) is None and fullmatch(pattern, text, ignore_case) is not None
    except TimeoutError:
        return False
