"""Spellings of the numbers in a worked solution, and their inverse.

Tokenizers split numbers in different ways. Some use one token per digit. Others use up to three digits per token from
the left, so that 1234 and 234 share no token. Spaces between digits, commas between groups, or reversed digits can
compensate for that. Every spelling can be undone exactly, so the plain text is verified and the spelled text is
trained. The last line holds the answer and always stays plain, because graders read it.

A number is a run of digits, optionally followed by a point and more digits. Digits directly after a letter are cells
of a column (a90 stands for the digits 9 and 0) and have no value as a whole. Only `spaced`, which works on single
digits, changes them.
"""

from __future__ import annotations

import re

from keeptune.config.solution_format import Spelling

_NUMBER = re.compile(r"[A-Za-z]?[0-9]+(?:\.[0-9]+)?")
_GROUP_ENDS = re.compile(r"(?<=[0-9])(?=(?:[0-9]{3})+$)")

# The text may already have separators between digits, as in `3 4` or `3,4`. Spelling then adds one more.
_DIGIT_GAP = re.compile(r"(?<=[0-9])(?: *)(?=[0-9])")
_ADDED_SPACE = re.compile(r"(?<=[0-9]) (?= *[0-9])")
_COMMAS = re.compile(r"(?<=[0-9]),+(?=[0-9])")
_ADDED_COMMA = re.compile(r"(?<=[0-9]),(?=,*[0-9])")


def spell(solution: str, spelling: Spelling) -> str:
    """Return the solution with the numbers of all lines except the last one respelled."""
    reasoning, line_end, answer = solution.rpartition("\n")
    return _spell_text(reasoning, spelling) + line_end + answer


def unspell(solution: str, spelling: Spelling) -> str:
    """Return the solution that `spell` was called with."""
    reasoning, line_end, answer = solution.rpartition("\n")
    return _unspell_text(reasoning, spelling) + line_end + answer


def _spell_text(text: str, spelling: Spelling) -> str:
    match spelling:
        case "plain":
            return text
        case "spaced":
            return _DIGIT_GAP.sub(r"\g<0> ", text)
        case "grouped":
            return _NUMBER.sub(_group_digits, _COMMAS.sub(r"\g<0>,", text))
        case "reversed":
            return _NUMBER.sub(_reverse_digits, text)


def _unspell_text(text: str, spelling: Spelling) -> str:
    match spelling:
        case "plain":
            return text
        case "spaced":
            return _ADDED_SPACE.sub("", text)
        case "grouped":
            return _ADDED_COMMA.sub("", text)
        case "reversed":
            return _NUMBER.sub(_reverse_digits, text)


def _group_digits(number: re.Match[str]) -> str:
    """The number with commas between groups of three digits before its point; a cell stays unchanged."""
    whole, point, decimals = number[0].partition(".")
    return number[0] if _is_cell(number) else _GROUP_ENDS.sub(",", whole) + point + decimals


def _reverse_digits(number: re.Match[str]) -> str:
    """The number from its last character to its first; a cell stays unchanged."""
    return number[0] if _is_cell(number) else number[0][::-1]


def _is_cell(number: re.Match[str]) -> bool:
    return number[0][0].isalpha()
