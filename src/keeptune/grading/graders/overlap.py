"""Graders of longer texts by their overlap with a reference: `rouge` and `chrf`. Both need the extra `graders`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from keeptune.errors import RecipeError
from keeptune.grading.base import Grade, Grader, GraderError
from keeptune.grading.chinese import CJK_LETTERS

_TOKEN = re.compile(rf"[{CJK_LETTERS}]|(?:(?![{CJK_LETTERS}_])\w)+")


class CharacterTokenizer:
    """Splits a text into words, and Chinese and Japanese text into characters.

    The tokenizer of rouge-score drops all letters except a to z, so that a Chinese text has no token.
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens in lower case."""
        return _TOKEN.findall(text.lower())


class Rouge(Grader):
    """ROUGE F1 (Lin 2004), computed by rouge-score without stemming."""

    name: ClassVar[str] = "rouge"
    is_binary: ClassVar[bool] = False

    variant: Literal["rouge1", "rouge2", "rougeL"] = Field("rougeL", description="unigrams, bigrams or subsequence")

    def check_available(self) -> None:
        _rouge_scorer(self.variant)

    def check_truth(self, truth: str, problem: str = "") -> None:
        if self._score(truth, truth) < 1:
            raise GraderError(f"the answer is too short for {self.variant}: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        return Grade(self._score(answer, truth), answer)

    def _score(self, answer: str, truth: str) -> float:
        return float(_rouge_scorer(self.variant).score(truth, answer)[self.variant].fmeasure)


class Chrf(Grader):
    """chrF2 (Popović 2015), computed by sacrebleu for one sentence, as a share of 1."""

    name: ClassVar[str] = "chrf"
    is_binary: ClassVar[bool] = False

    word_order: int = Field(0, ge=0, le=4, description="longest word n-gram; 2 gives chrF++")

    def check_available(self) -> None:
        _chrf_metric(self.word_order)

    def check_truth(self, truth: str, problem: str = "") -> None:
        if self._score(truth, truth) < 1:
            raise GraderError(f"the answer has no letters to compare: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        return Grade(self._score(answer, truth), answer)

    def _score(self, answer: str, truth: str) -> float:
        score = float(_chrf_metric(self.word_order).sentence_score(answer, [truth]).score) / 100
        # The library sums in floating point: a text compared with itself gives 99.99999999999999.
        return 1.0 if score > 1 - 1e-9 else score


@cache
def _rouge_scorer(variant: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise RecipeError("the grader rouge needs the library rouge-score: pip install 'keeptune[graders]'") from None
    return RougeScorer([variant], tokenizer=CharacterTokenizer())


@cache
def _chrf_metric(word_order: int) -> Any:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise RecipeError("the grader chrf needs the library sacrebleu: pip install 'keeptune[graders]'") from None
    return CHRF(word_order=word_order)
