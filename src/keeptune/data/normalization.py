"""One spelling for texts that differ only in spelling, and the numbers in a text.

Whether two problems are alike is asked about what they say, so full-width forms, letter case, white space and the
punctuation of sentences are taken out first, and 5, 5.0 and ５ become one number. What has a meaning in mathematics
stays: signs, operators, brackets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import groupby

from keeptune.grading.chinese import CJK_LETTERS

# Stand for the point and the sign of a number, and for the factorial, while punctuation is taken out.
_POINT, _SIGN, _BANG = _MARKS = "\ue000\ue001\ue002"

# Each pattern begins with a character or a set of them, which is what makes the search fast.
# A sign is glued to its number and to nothing before it: 3 - -4 has the numbers 3 and -4, but x-4 only 4.
_SIGNED = re.compile(rf"-(?<![^\W_{CJK_LETTERS}]-)(?<![)\]}}]-)(?=\.?[0-9])")
_DIGITS = re.compile(rf"([{_SIGN}0-9.][0-9,.]*)")
_NUMBER = re.compile(rf"{_SIGN}?(?:(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+)")
_HYPHEN = re.compile(r"-(?:(?<=[^\W\d_]{2}-)(?=[^\W\d_])|(?<=[^\W_]-)(?=[^\W\d_]{2}))")
_LETTERS = re.compile(rf"[{CJK_LETTERS}]|[^\W\d_{CJK_LETTERS}]{{3,}}")
_LATEX_SPACE = re.compile(r"\\[,;:! ]")
_FACTORIAL = re.compile(r"!(?:(?<=[0-9)\]}]!)|(?<=[0-9)\]}] !))")
_MEANINGFUL = frozenset("-*/%()[]{}")
_VOID = frozenset("$`_")

# NFKC would make x² and x2 one, and 2½ and 21/2; the full-width comma groups no digits, the ASCII one may.
_SPECIAL = re.compile(f"[⁰¹²³⁴-⁹⁺⁻]+|[½⅓⅔¼¾⅕⅛，−–×÷{_MARKS}]")
_PLAIN = (
    dict.fromkeys(f"，{_MARKS}", " ")
    | {"−": "-", "–": "-", "×": "*", "÷": "/"}
    | {part: f" {part}" for part in "½⅓⅔¼¾⅕⅛"}
)
# What NFKC makes of the stroke of a fraction and of a raised minus.
_FRACTION_SLASH, _MINUS = "\u2044", "\u2212"


class _Spelling(dict[int, str]):
    """What each character becomes, with or without mathematical signs; filled as characters are met."""

    def __init__(self, signs: bool) -> None:
        super().__init__({ord(_POINT): ".", ord(_SIGN): "-", ord(_BANG): " ! " if signs else " "})
        self._signs = signs

    def __missing__(self, code: int) -> str:
        spelled = _spelled(chr(code))
        is_sign = spelled[0] == " " and not spelled[1:2].isalnum()
        self[code] = " " if is_sign and not self._signs else spelled
        return self[code]


_WITH_SIGNS, _WORDS_ONLY = _Spelling(signs=True), _Spelling(signs=False)


def normalised(text: str) -> str:
    """The words, numbers and mathematical signs of a text in one spelling, a space between each two.

    A Chinese character is a word. Numbers have neither thousands commas nor needless zeros.
    """
    return " ".join(_tokens(text, _WITH_SIGNS))


def words(text: str) -> list[str]:
    """The words and numbers of the normalised text, without the mathematical signs between them."""
    return _tokens(text, _WORDS_ONLY)


def letters(text: str) -> list[str]:
    """The runs of three letters or more, and the Chinese characters, of the normalised text: two equal words have the
    same ones. Much faster than `words`."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return _LETTERS.findall(text.lower())


def operands(text: str) -> tuple[Decimal, ...]:
    """The numbers in a text, in their order."""
    return tuple(Decimal(token) for token in normalised(text).split() if is_number(token))


def template(text: str) -> str:
    """The normalised text with 0 in place of each number, and of each list of numbers: the same for problems that
    were made by putting other numbers into one sentence."""
    tokens = ("0" if is_number(token) else token for token in normalised(text).split())
    return " ".join("0" if token == "0" else " ".join(run) for token, run in groupby(tokens))


def free_text_kinds(problems: Iterable[tuple[str, str]]) -> set[str]:
    """The kinds, given (kind, text) pairs, whose problems differ in more than their numbers."""
    templates: dict[str, str] = {}
    free: set[str] = set()
    for kind, text in problems:
        if kind not in free:
            spelling = template(text)
            if templates.setdefault(kind, spelling) != spelling:
                free.add(kind)
    return free


def is_number(token: str) -> bool:
    """Whether a part of a normalised text is a number."""
    return "0" <= token[-1] <= "9"


def _tokens(text: str, spelling: _Spelling) -> list[str]:
    if not text.isascii():
        plain = _SPECIAL.sub(lambda special: _PLAIN.get(special[0]) or f"^{special[0]}", text)
        text = unicodedata.normalize("NFKC", plain).replace(_FRACTION_SLASH, "/").replace(_MINUS, "-")
        # The small form of a letter can be a letter and a mark apart.
        text = unicodedata.normalize("NFKC", text.lower())
    text = _HYPHEN.sub(" ", _LATEX_SPACE.sub(" ", text.lower()))
    text = _SIGNED.sub(_SIGN, _FACTORIAL.sub(_BANG, text))
    pieces = _DIGITS.split(text)
    pieces[1::2] = map(_numbers, pieces[1::2])
    return "".join(pieces).translate(spelling).split()


def _spelled(character: str) -> str:
    """A character as it stands in a normalised text, apart from its neighbours unless words are made of it."""
    if re.match(f"[{CJK_LETTERS}]", character) or character in _MEANINGFUL:
        return f" {character} "
    category = unicodedata.category(character)[0]
    if character in _VOID or category in "PCZ":
        return " "
    return f" {character} " if category == "S" else character


@lru_cache(maxsize=16384)
def _numbers(run: str) -> str:
    """A run of digits, commas and points as the numbers in it, apart from each other and from what surrounds them."""
    return f" {' '.join(map(_number, _NUMBER.findall(run)))} "


def _number(digits: str) -> str:
    """A number in its one spelling."""
    sign = _SIGN if digits[0] == _SIGN else ""
    whole, _, decimals = digits.removeprefix(sign).replace(",", "").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    size = f"{whole}{_POINT}{decimals}" if decimals else whole
    return size if size == "0" else sign + size
