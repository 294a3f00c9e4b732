"""What a reader gives: a row, or a rejected row with its place and the reason. Readers of all formats share this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

LONGEST_ROW_BYTES = 1_000_000
LONGEST_TEXT = 2_000
"""Characters of a rejected row that are kept."""

TOO_LONG = "longer than 1 MB"
NOT_UTF8 = "not UTF-8"
NOT_UNDERSTOOD = "no known kind of problem: nor a text whose answer can be graded, of at most 400 characters"

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """A problem with its stored solution, and where it stands: the line, or the item of a JSON list, from 1.

    `label` is the text of data.columns.kind, where the recipe names one. `unwrapped` tells that the problem stood in
    a known prompt, which was taken off. A tuple, because millions are made.
    """

    file: str
    line: int
    problem: str
    solution: str
    label: str | None = None
    unwrapped: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not used, why, its text cut to 2,000 characters, and how long it was (in bytes if undecoded).

    What precedes a colon in the reason is the same for all rows that are rejected for it.
    """

    file: str
    line: int
    reason: str
    text: str
    length: int


class BadRow(Exception):  # noqa: N818  (carries a reason, never leaves the readers)
    """Why the row at hand is not used."""


def reject(file: str, line: int, reason: str, text: str) -> Rejected:
    """The record of a rejected row, with no more of its text than is worth keeping."""
    return Rejected(file, line, reason, _HALF_CHARACTER.sub("\ufffd", text[:LONGEST_TEXT]), len(text))


def checked(name: str, value: object) -> str:
    """The text that `value` is. errors: BadRow when it is none, is empty, or no file could hold it."""
    if not isinstance(value, str):
        raise BadRow(f"{name} is not a text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    if not is_utf8(value):
        raise BadRow(f"{name} holds half a character (a lone surrogate, or bytes that are not UTF-8)")
    return value


def is_utf8(text: str) -> bool:
    """Whether a text can be stored as UTF-8, which lone surrogates cannot."""
    return text.isascii() or not _HALF_CHARACTER.search(text)
