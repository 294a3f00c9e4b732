"""Decides which texts of the teacher model are used: fully verified reasoning, and paraphrases with the same meaning.

Each check returns None or a reason. The reasons are a small fixed set, so that they can be counted. If in doubt, a text
is rejected, because the row then keeps its original text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from fractions import Fraction

from keeptune.data.teacher.equations import evaluate_expression, normalize_markup, prove
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.chinese import HAN_AND_COMPATIBILITY
from keeptune.grading.number import grade, parse_number
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.base import Question

MAX_TEXT_CHARACTERS = 20_000
"""Longer texts are rejected without being parsed, to bound the time per text."""

MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 0.4, 2.5
"""The length of a paraphrase relative to its original."""

_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_MARKUP = ("<think>", "</think>", "\ufffd")
_QUOTES = "\"'“”‘’「」"

# A minus sign belongs to a number if no operand precedes it.
_NUMBER = re.compile(r"(?<![0-9A-Za-z)\]])-?[0-9]+(?:[.,][0-9]+)*|[0-9]+(?:[.,][0-9]+)*")
_CHINESE = re.compile(f"[{HAN_AND_COMPATIBILITY}]")
_WORD = re.compile(r"[A-Za-z]{3,}")

# The numeral for one usually means "a", as in 一个. If it replaces a digit, the missing digit is detected instead.
_ONE = "一"
_MORE_NUMERALS = "两俩仨"


def clean_answer(text: str) -> str:
    """Return the text without a leading <think> block and without trailing white space."""
    text = _THINKING.sub("", text, count=1).replace("\r\n", "\n")
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def find_reasoning_fault(text: str, question: Question, answer: str) -> str | None:
    """Return why a solution cannot be used, or None. `answer` is the final answer in the recipe's rounding.

    The final answer must be exact or rounded as in `answer`. There must be at least one equation, and all must hold.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        return "too long"
    last_line = text.rpartition("\n")[2]
    if text.count(ANSWER_MARKER) != 1 or not last_line.startswith(f"{ANSWER_MARKER} "):
        return "no final answer on the last line"
    if any(mark in text for mark in _MARKUP):
        return "markup"
    truth = question.truth
    if "=" in last_line or not grade(text, truth).correct or not _is_exact(last_line, truth, answer):
        return "wrong answer"
    proof = prove(text, question.text, truth if isinstance(truth, Fraction) else None)
    if proof.false_equation is not None or find_false_step(text) is not None:
        return "wrong step"
    if proof.unreadable_equation is not None:
        return "a step that cannot be read"
    return None if proof.proven_count else "no step"


def find_paraphrase_fault(text: str, question: Question) -> str | None:
    """Return why the wording of a paraphrase shows that it cannot be used, or None.

    The paraphrase must have the same numbers in the same order (so it cannot contain the answer), the same language and
    about the same length.
    """
    problem = question.text
    if not MIN_LENGTH_RATIO * len(problem) <= len(text) <= MAX_LENGTH_RATIO * len(problem):
        return "too short or too long"
    if _letters_and_signs(text) == _letters_and_signs(problem):
        return "not in other words"
    if find_numbers(text) != find_numbers(problem):
        return "other numbers"
    if _non_ascii_numerals(text) - _non_ascii_numerals(problem):
        return "numbers in other digits"
    if not _is_same_language(text, problem):
        return "another language"
    return "markup" if any(mark in text for mark in (ANSWER_MARKER, "\\boxed", *_MARKUP)) else None


def find_meaning_fault(formula: str, truth: Truth) -> str | None:
    """Return None if a formula has the exact answer as its value, or else the reason to reject its paraphrase.

    The model derives the formula from the paraphrase alone. So the check needs a model that understands the problem,
    not one that calculates well.
    """
    text = normalize_markup(formula.strip().rpartition("\n")[2]).strip(" .。=")
    value = evaluate_expression(text.rpartition("=")[2] if "=" in text else text)
    is_same = value is not None and isinstance(truth, Fraction) and abs(value - truth) <= abs(truth) / 10**12
    return None if is_same else "another meaning"


def find_numbers(text: str) -> list[str]:
    """Return the numbers in ASCII digits in a text, in order, as they are written.

    >>> find_numbers("计算 9630.41 - -7979.46 等于多少？")
    ['9630.41', '-7979.46']
    """
    return _NUMBER.findall(text)


def strip_quotes(text: str) -> str:
    """Return a paraphrase without quotation marks around it."""
    inner = text.strip(_QUOTES).strip()
    return inner if text[:1] in _QUOTES and text[-1:] in _QUOTES else text


def _is_exact(last_line: str, truth: Truth, answer: str) -> bool:
    if isinstance(truth, str):
        return True  # For texts, grading already required equality.
    return parse_number(last_line.removeprefix(ANSWER_MARKER)) in (truth, parse_number(answer))


def _letters_and_signs(text: str) -> str:
    """Return the text in lower case without punctuation and white space."""
    return "".join(character for character in text if unicodedata.category(character)[0] not in "PZC").casefold()


def _non_ascii_numerals(text: str) -> Counter[str]:
    """Count the characters that denote a number but are not ASCII digits: 二, 百, 两, ３, ², Ⅳ."""
    return Counter(
        character
        for character in text
        if character in _MORE_NUMERALS
        or (not character.isascii() and character != _ONE and unicodedata.numeric(character, None) is not None)
    )


def _is_same_language(text: str, problem: str) -> bool:
    if bool(_CHINESE.search(text)) != bool(_CHINESE.search(problem)):
        return False
    return not _CHINESE.search(problem) or set(_WORD.findall(text)) <= set(_WORD.findall(problem))
