"""Helpers of abilities with written answers: greedy answers through the chat template, and detection of degeneration.

An answer is degenerate if it is empty, has hardly any words, repeats itself, or is not in the language of the prompt.
The rules look at form alone. They detect the output of broken models and do not judge the content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from keeptune.evaluation.abilities.base import Progress, Subject
from keeptune.evaluation.suite.loader import Language
from keeptune.files import Record
from keeptune.generation.engine import StopRule, never_stop
from keeptune.grading.chinese import HAN, HAN_CHARACTER
from keeptune.prompts.chat import Message

_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(rf"[{HAN}]|[^\W\d_{HAN}]+")

NGRAM = 4
DISTINCT_SHARE = 0.5
"""Minimum share of distinct 4-grams. An answer with less repeats itself."""

LETTER_SHARE = 0.5
"""Minimum share of letters among the visible characters. An answer with less has no words."""

HAN_SHARE = 0.3
"""Minimum share of Chinese characters among the words of Chinese text. English text has less."""

LATIN_SHARE = 0.5
"""Minimum share of words with Latin letters in English text."""

MIN_WORDS = 12
"""Minimum number of words for the checks of repetition and of function words."""

_ENGLISH_FUNCTION_WORDS = frozenset(
    "the a an and or but if of to in on at by for with from as is are was were be been has have had do does did not no "
    "it its this that these those he she they we you i your my his her their our can will would should could may there "
    "which who what when where how so than then".split()
)
_CHINESE_FUNCTION_CHARACTERS = frozenset("的了是在有和不我你他她它这那一个们就也都会要可以为与及到对很请把被而或")


def degenerate(answer: str, language: Language) -> str | None:
    """Why an answer is degenerate: `empty`, `no words`, `repeating` or `off-language`; None if it is healthy."""
    text = answer.strip()
    if not text:
        return "empty"
    visible = [character for character in text if not character.isspace()]
    if sum(character.isalpha() for character in visible) < LETTER_SHARE * len(visible):
        return "no words"
    words = [word.lower() for word in _WORD.findall(text)]
    if is_repeating(words):
        return "repeating"
    return None if _is_language(words, language) else "off-language"


def is_repeating(words: Sequence[str]) -> bool:
    """Whether the share of distinct 4-grams is below DISTINCT_SHARE. Answers shorter than MIN_WORDS never repeat."""
    grams = [tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)]
    return len(words) >= MIN_WORDS and len(set(grams)) < DISTINCT_SHARE * len(grams)


def _is_language(words: Sequence[str], language: Language) -> bool:
    han = sum(bool(HAN_CHARACTER.match(word)) for word in words)
    if (han >= HAN_SHARE * len(words)) != (language == "zh"):
        return False
    if language == "en" and sum(bool(_LATIN.search(word)) for word in words) < LATIN_SHARE * len(words):
        return False
    function = _CHINESE_FUNCTION_CHARACTERS if language == "zh" else _ENGLISH_FUNCTION_WORDS
    return len(words) < MIN_WORDS or any(word in function for word in words)


def written_answers(
    subject: Subject,
    conversations: Sequence[Sequence[Message]],
    budget: int,
    progress: Progress,
    stop: StopRule = never_stop,
) -> list[Record]:
    """Greedy answers to conversations through the model's chat template, as the model fields of records.

    `budget` is the maximum number of new tokens per answer.
    """
    prompts = [subject.layout.conversation(conversation) for conversation in conversations]
    tokens = [subject.layout.tokens(prompt) for prompt in prompts]
    answers = subject.generator.answer(tokens, [budget] * len(tokens), stop, progress)
    return [
        {
            "layout": subject.layout.name,
            "prompt": prompt,
            "output": answer.text,
            "stopped": answer.stopped,
            "output_tokens": answer.tokens,
        }
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
