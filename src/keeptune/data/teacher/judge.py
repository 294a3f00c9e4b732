"""Which texts of a model may be taught: reasoning that is proven to its last number, a paraphrase of equal meaning.

Every verdict is None or a reason, and reasons are few and fixed, so that they can be counted. In doubt a text is
refused: a row without one keeps what it has.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from fractions import Fraction

from keeptune.data.teacher.equations import plain, prove, value_of
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.chinese import HAN_AND_COMPATIBILITY
from keeptune.grading.number import grade, parse_number
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.base import Question

LONGEST_TEXT_CHARACTERS = 20_000
"""What is longer is not even looked at: no answer may cost more time than its row is worth."""

SHORTEST_PARAPHRASE, LONGEST_PARAPHRASE = 0.4, 2.5
"""In lengths of the original."""

_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_BROKEN = ("<think>", "</think>", "\ufffd")
_QUOTES = "\"'“”‘’「」"

# A minus sign belongs to a number if nothing before it could be subtracted from.
_NUMBER = re.compile(r"(?<![0-9A-Za-z)\]])-?[0-9]+(?:[.,][0-9]+)*|[0-9]+(?:[.,][0-9]+)*")
_CHINESE = re.compile(f"[{HAN_AND_COMPATIBILITY}]")
_WORD = re.compile(r"[A-Za-z]{3,}")

# It has a value as a digit, but mostly stands for `a`, as in 一个; that it took a digit's place is seen by that digit.
_ONE = "一"
_MORE_NUMERALS = "两俩仨"


def cleaned(text: str) -> str:
    """The text without what a model thought aloud before it, and without blanks that nobody sees."""
    text = _THOUGHTS.sub("", text, count=1).replace("\r\n", "\n")
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def reasoning_fault(text: str, question: Question, answer: str) -> str | None:
    """Why a solution may not be taught, or None. `answer` is the final answer as the recipe writes it.

    The final answer must be exact, or rounded as in `answer`; every equation must hold, and there must be one.
    """
    if len(text) > LONGEST_TEXT_CHARACTERS:
        return "too long"
    last_line = text.rpartition("\n")[2]
    if text.count(ANSWER_MARKER) != 1 or not last_line.startswith(f"{ANSWER_MARKER} "):
        return "no final answer on the last line"
    if any(mark in text for mark in _BROKEN):
        return "markup"
    truth = question.truth
    if "=" in last_line or not grade(text, truth).correct or not _exact(last_line, truth, answer):
        return "wrong answer"
    proof = prove(text, question.text, truth if isinstance(truth, Fraction) else None)
    if proof.false is not None or find_false_step(text) is not None:
        return "wrong step"
    if proof.unread is not None:
        return "a step that cannot be read"
    return None if proof.holding else "no step"


def paraphrase_fault(text: str, question: Question) -> str | None:
    """Why other words for a problem may not be taught, as far as the words tell, or None.

    The numbers are the same in the same order, so that no answer can be among them; so are the language and,
    roughly, the length.
    """
    problem = question.text
    if not SHORTEST_PARAPHRASE * len(problem) <= len(text) <= LONGEST_PARAPHRASE * len(problem):
        return "too short or too long"
    if _letters(text) == _letters(problem):
        return "not in other words"
    if numbers(text) != numbers(problem):
        return "other numbers"
    if _numerals(text) - _numerals(problem):
        return "numbers in other digits"
    if not _same_language(text, problem):
        return "another language"
    return "markup" if any(mark in text for mark in (ANSWER_MARKER, "\\boxed", *_BROKEN)) else None


def meaning_fault(formula: str, truth: Truth) -> str | None:
    """Why a calculation, made from a paraphrase alone, shows that it asks for something else; None where it gives
    the exact answer. The model need not calculate well for this, only understand."""
    text = plain(formula.strip().rpartition("\n")[2]).strip(" .。=")
    value = value_of(text.rpartition("=")[2] if "=" in text else text)
    same = value is not None and isinstance(truth, Fraction) and abs(value - truth) <= abs(truth) / 10**12
    return None if same else "another meaning"


def numbers(text: str) -> list[str]:
    """The numbers of a text in ASCII digits, in their order, as they are written.

    >>> numbers("计算 9630.41 - -7979.46 等于多少？")
    ['9630.41', '-7979.46']
    """
    return _NUMBER.findall(text)


def unquoted(text: str) -> str:
    """A paraphrase without the quotation marks that a model may put around it."""
    inner = text.strip(_QUOTES).strip()
    return inner if text[:1] in _QUOTES and text[-1:] in _QUOTES else text


def _exact(last_line: str, truth: Truth, answer: str) -> bool:
    if isinstance(truth, str):
        return True  # Two texts are graded by being the same.
    return parse_number(last_line.removeprefix(ANSWER_MARKER)) in (truth, parse_number(answer))


def _letters(text: str) -> str:
    """What remains of a text where only punctuation and blanks are changed."""
    return "".join(character for character in text if unicodedata.category(character)[0] not in "PZC").casefold()


def _numerals(text: str) -> Counter[str]:
    """The characters that stand for a number in any script but our own: 二, 百, 两, ３, ², Ⅳ."""
    return Counter(
        character
        for character in text
        if character in _MORE_NUMERALS
        or (not character.isascii() and character != _ONE and unicodedata.numeric(character, None) is not None)
    )


def _same_language(text: str, problem: str) -> bool:
    if bool(_CHINESE.search(text)) != bool(_CHINESE.search(problem)):
        return False
    return not _CHINESE.search(problem) or set(_WORD.findall(text)) <= set(_WORD.findall(problem))
