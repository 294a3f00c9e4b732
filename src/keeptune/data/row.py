"""The records that all readers produce: a raw row, or a rejected row with its place and the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

from keeptune.skills.base import Question, Skill, UnusableRowError

MAX_ROW_BYTES = 1_000_000
"""Rows longer than this are rejected."""

MAX_REJECTED_CHARACTERS = 2_000
"""The text of a rejected row is cut to this length."""

TOO_LONG = "longer than 1 MB"
NOT_UTF8 = "not UTF-8"

_SURROGATE = re.compile("[\ud800-\udfff]")


class RawRow(NamedTuple):
    """A problem with its stored solution, as a reader found it. It is a tuple because runs create millions of them."""

    file: str
    line: int
    """The line number, or the position in a JSON list, counted from 1."""
    problem: str
    solution: str
    label: str | None = None
    """The text in the column data.columns.kind, if the recipe names one."""
    unwrapped: bool = False
    """Whether the reader removed a known prompt around the problem."""
    conversation: str | None = None
    """All turns and tools as JSON, if the row is more than a question and its answer; see `conversations`."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not used, with the reason and the start of its text."""

    file: str
    line: int
    reason: str
    """The part before a colon is the same for all rows that are rejected for this reason. Rows are counted by it."""
    text: str
    """The first 2,000 characters."""
    length: int
    """The full length in characters, or in bytes if the row was not decoded."""


def find_question(skill: Skill, row: RawRow) -> Question | str:
    """Return the question of a row, or the reason why the row cannot be used."""
    try:
        question = skill.parse(row.problem, row.solution, row.label)
    except UnusableRowError as error:
        return str(error)
    return question or skill.explain_rejection(row.problem, row.solution, row.label)


class RowError(Exception):
    """The reason why the current row is rejected. Readers catch it; it never leaves them."""


def reject(file: str, line: int, reason: str, text: str) -> RejectedRow:
    """Return the record of a rejected row, with its text cut to `MAX_REJECTED_CHARACTERS`."""
    start, length = _SURROGATE.sub("\ufffd", text[:MAX_REJECTED_CHARACTERS]), len(text)
    return RejectedRow(file, line, _SURROGATE.sub("\ufffd", reason), start, length)


def require_text(name: str, value: object) -> str:
    """Return `value` if it is a non-empty string that can be stored as UTF-8. `name` is used in the reason.

    Raises:
        RowError: the value is not a string, is blank, or contains a lone surrogate.
    """
    if not isinstance(value, str):
        raise RowError(f"{name} is not a text")
    if not value.strip():
        raise RowError(f"{name} is empty")
    if not is_utf8(value):
        raise RowError(f"{name} holds half a character (a lone surrogate, or bytes that are not UTF-8)")
    return value


def is_plain_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a text that needs no further check: not blank, valid UTF-8, and at most 500 kB."""
    return (
        type(value) is str
        and len(value) <= MAX_ROW_BYTES // 8
        and (value.isascii() or not _SURROGATE.search(value))
        and not value.isspace()
        and value != ""
    )


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8, that is, contains no lone surrogates."""
    return text.isascii() or not _SURROGATE.search(text)
