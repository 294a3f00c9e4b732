"""Normalizes texts that differ only in spelling, and extracts their words and numbers.

Problems are compared by their content. So normalization removes full-width forms, letter case, white space and sentence
punctuation, and maps 5, 5.0 and ５ to one number. It keeps what has a mathematical meaning: signs, operators and
brackets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import groupby

from keeptune.grading.chinese import CJK_LETTERS

_CHINESE = CJK_LETTERS
# Private-use characters that replace decimal points, signs of numbers and factorials while punctuation is removed.
_POINT, _SIGN, _BANG = _MARKS = "\ue000\ue001\ue002"

# Each pattern begins with a character or a character set, which makes the search fast.
# A sign is adjacent to its number and to nothing before it: 3 - -4 has the numbers 3 and -4, but x-4 has the number 4.
_SIGNED = re.compile(rf"-(?<![^\W_{_CHINESE}]-)(?<![)\]}}]-)(?=\.?[0-9])")
_DIGITS = re.compile(rf"([{_SIGN}0-9.][0-9,.]*)")
_NUMBER = re.compile(rf"{_SIGN}?(?:(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+)")
_HYPHEN = re.compile(r"-(?:(?<=[^\W\d_]{2}-)(?=[^\W\d_])|(?<=[^\W_]-)(?=[^\W\d_]{2}))")
_LETTERS = re.compile(rf"[{CJK_LETTERS}]|[^\W\d_{CJK_LETTERS}]{{3,}}")
_LATEX_SPACE = re.compile(r"\\[,;:! ]")
_FACTORIAL = re.compile(r"!(?:(?<=[0-9)\]}]!)|(?<=[0-9)\]}] !))")
_MEANINGFUL = frozenset("-*/%()[]{}")
_IGNORED = frozenset("$`_")

# NFKC would make x² equal to x2, and 2½ equal to 21/2. Only the ASCII comma can group digits, not the full-width one.
_SPECIAL = re.compile(f"[⁰¹²³⁴-⁹⁺⁻]+|[½⅓⅔¼¾⅕⅛，−–×÷{_MARKS}]")
_PLAIN = (
    dict.fromkeys(f"，{_MARKS}", " ")
    | {"−": "-", "–": "-", "×": "*", "÷": "/"}
    | {part: f" {part}" for part in "½⅓⅔¼¾⅕⅛"}
)
# The characters to which NFKC maps the stroke of a fraction and a superscript minus.
_FRACTION_SLASH, _MINUS = "\u2044", "\u2212"


class _Spelling(dict[int, str]):
    """Maps each character to its normalized form, with or without mathematical signs. It is filled on demand."""

    def __init__(self, keep_signs: bool) -> None:
        super().__init__({ord(_POINT): ".", ord(_SIGN): "-", ord(_BANG): " ! " if keep_signs else " "})
        self._keep_signs = keep_signs

    def __missing__(self, code: int) -> str:
        normalized = _normalize_character(chr(code))
        is_sign = normalized[0] == " " and not normalized[1:2].isalnum()
        self[code] = " " if is_sign and not self._keep_signs else normalized
        return self[code]


_WITH_SIGNS, _WORDS_ONLY = _Spelling(keep_signs=True), _Spelling(keep_signs=False)


def normalize(text: str) -> str:
    """Return the words, numbers and mathematical signs of a text in one spelling, separated by spaces.

    A Chinese character is a word. Numbers have neither thousands separators nor redundant zeros.
    """
    return " ".join(_tokens(text, _WITH_SIGNS))


def split_words(text: str) -> list[str]:
    """Return the words and numbers of the normalized text, without mathematical signs."""
    return _tokens(text, _WORDS_ONLY)


def letter_runs(text: str) -> list[str]:
    """Return the runs of three or more letters, and the Chinese characters, of the normalized text.

    Equal words have equal letter runs. This function is much faster than `split_words`.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return _LETTERS.findall(text.lower())


def extract_numbers(text: str) -> tuple[Decimal, ...]:
    """Return the numbers in a text in order."""
    return tuple(Decimal(token) for token in normalize(text).split() if is_number(token))


def mask_numbers(text: str) -> str:
    """Return the normalized text with each number, and each list of numbers, replaced by 0.

    The result is the same for problems that are one sentence with different numbers.
    """
    tokens = ("0" if is_number(token) else token for token in normalize(text).split())
    return " ".join("0" if token == "0" else " ".join(run) for token, run in groupby(tokens))


def find_free_text_kinds(problems: Iterable[tuple[str, str]]) -> set[str]:
    """Return the kinds whose problems differ in more than their numbers. `problems` are (kind, text) pairs."""
    templates: dict[str, str] = {}
    free_text: set[str] = set()
    for kind, text in problems:
        if kind not in free_text:
            template = mask_numbers(text)
            if templates.setdefault(kind, template) != template:
                free_text.add(kind)
    return free_text


def is_number(token: str) -> bool:
    """Return whether a token of a normalized text is a number."""
    return "0" <= token[-1] <= "9"


def _tokens(text: str, spelling: _Spelling) -> list[str]:
    if not text.isascii():
        plain = _SPECIAL.sub(lambda special: _PLAIN.get(special[0]) or f"^{special[0]}", text)
        text = unicodedata.normalize("NFKC", plain).replace(_FRACTION_SLASH, "/").replace(_MINUS, "-")
        # The lower-case form of a letter can be a letter followed by a combining mark.
        text = unicodedata.normalize("NFKC", text.lower())
    text = _HYPHEN.sub(" ", _LATEX_SPACE.sub(" ", text.lower()))
    text = _SIGNED.sub(_SIGN, _FACTORIAL.sub(_BANG, text))
    pieces = _DIGITS.split(text)
    pieces[1::2] = map(_normalize_digit_run, pieces[1::2])
    return "".join(pieces).translate(spelling).split()


def _normalize_character(character: str) -> str:
    """Return the normalized form of a character. Characters that do not form words are surrounded by spaces."""
    if re.match(f"[{_CHINESE}]", character) or character in _MEANINGFUL:
        return f" {character} "
    category = unicodedata.category(character)[0]
    if character in _IGNORED or category in "PCZ":
        return " "
    return f" {character} " if category == "S" else character


@lru_cache(maxsize=16384)
def _normalize_digit_run(run: str) -> str:
    """Return the numbers in a run of digits, commas and points, separated and surrounded by spaces."""
    return f" {' '.join(map(_normalize_number, _NUMBER.findall(run)))} "


def _normalize_number(digits: str) -> str:
    """Return a number without thousands separators and redundant zeros."""
    sign = _SIGN if digits[0] == _SIGN else ""
    whole, _, decimals = digits.removeprefix(sign).replace(",", "").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    magnitude = f"{whole}{_POINT}{decimals}" if decimals else whole
    return magnitude if magnitude == "0" else sign + magnitude
