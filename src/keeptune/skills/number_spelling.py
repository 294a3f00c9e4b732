"""How the numbers in a worked solution are spelled, and how any spelling is read back.

Tokenizers cut numbers differently: some make each digit a token, others take up to three together, from the left, so
that 1234 and 234 share none. Digits set apart, commas in groups, or the last digit first can make up for that. Every
text comes back from its spelling letter for letter, so what is taught is proven as the plain text that it stands for.
The last line states the answer and is always plain: graders read it.

A number is digits, and a point with digits behind it. Digits right behind a letter are cells of a column, such as a90
for the digits 9 and 0, and have no value as a whole: only `spaced`, which is about digits, changes them.
"""

from __future__ import annotations

import re

from keeptune.config.solution_format import Spelling

_NUMBER = re.compile(r"[A-Za-z]?[0-9]+(?:\.[0-9]+)?")
_GROUP_ENDS = re.compile(r"(?<=[0-9])(?=(?:[0-9]{3})+$)")

# What a spelling puts between digits may stand there already, as in `3 4` or `3,4`. Then there is one more of it.
_APART = re.compile(r"(?<=[0-9])(?: *)(?=[0-9])")
_ONE_SPACE = re.compile(r"(?<=[0-9]) (?= *[0-9])")
_COMMAS = re.compile(r"(?<=[0-9]),+(?=[0-9])")
_ONE_COMMA = re.compile(r"(?<=[0-9]),(?=,*[0-9])")


def spell(solution: str, spelling: Spelling) -> str:
    """The solution with its numbers spelled so, but for those of the last line."""
    reasoning, line_end, answer = solution.rpartition("\n")
    return _spelled(reasoning, spelling) + line_end + answer


def plain(solution: str, spelling: Spelling) -> str:
    """The solution that `spell` was given."""
    reasoning, line_end, answer = solution.rpartition("\n")
    return _read(reasoning, spelling) + line_end + answer


def _spelled(text: str, spelling: Spelling) -> str:
    match spelling:
        case "plain":
            return text
        case "spaced":
            return _APART.sub(r"\g<0> ", text)
        case "grouped":
            return _NUMBER.sub(_in_groups, _COMMAS.sub(r"\g<0>,", text))
        case "reversed":
            return _NUMBER.sub(_backwards, text)


def _read(text: str, spelling: Spelling) -> str:
    match spelling:
        case "plain":
            return text
        case "spaced":
            return _ONE_SPACE.sub("", text)
        case "grouped":
            return _ONE_COMMA.sub("", text)
        case "reversed":
            return _NUMBER.sub(_backwards, text)


def _in_groups(number: re.Match[str]) -> str:
    """The number with commas between groups of three digits before its point; a cell as it is."""
    whole, point, decimals = number[0].partition(".")
    return number[0] if _is_cell(number) else _GROUP_ENDS.sub(",", whole) + point + decimals


def _backwards(number: re.Match[str]) -> str:
    """The number from its last digit to its first; a cell as it is."""
    return number[0] if _is_cell(number) else number[0][::-1]


def _is_cell(number: re.Match[str]) -> bool:
    return number[0][0].isalpha()
