"""Finds the tokenizer's special tokens in the texts of rows.

A tokenizer turns the text `<|im_end|>` into the token that ends a turn. In a row, it would end the prompt or the answer
in the middle of a text, and it teaches the model to write such tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from keeptune.data.row import RawRow, RejectedRow, RowError, reject, require_text


class SpecialTokenFilter:
    """Rejects rows with special tokens, or removes the tokens, as data.special_tokens says.

    Args:
        tokens: the texts of the tokenizer's special tokens.
    """

    def __init__(self, tokens: Sequence[str], mode: Literal["reject", "strip"]) -> None:
        texts = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None
        self._mode = mode
        self.stripped = 0
        """The number of rows from which tokens were removed."""

    def apply(self, row: RawRow | RejectedRow) -> RawRow | RejectedRow:
        """Return the row, the row without special tokens, or its rejection."""
        if self._pattern is None or isinstance(row, RejectedRow):
            return row
        match = next(filter(None, map(self._pattern.search, _texts_of(row))), None)
        if match is None:
            return row
        text = f"{row.problem}\n{row.solution}"
        if self._mode == "reject":
            reason = f"a special token in the text: found {match[0]!r}; remove it, or set data.special_tokens: strip"
            return reject(row.file, row.line, reason, text)
        try:
            problem = require_text("problem", self._strip(row.problem))
            solution = require_text("solution", self._strip(row.solution))
            conversation = None if row.conversation is None else self._strip_conversation(row.conversation)
        except RowError as error:
            return reject(row.file, row.line, f"{error} without its special tokens", text)
        self.stripped += 1
        return row._replace(problem=problem, solution=solution, conversation=conversation)

    def _strip_conversation(self, conversation: str) -> str:
        """Return a stored conversation without special tokens.

        Raises:
            RowError: a text of it has nothing else.
        """
        return json.dumps(self._strip_texts(json.loads(conversation)), ensure_ascii=False)

    def _strip_texts(self, value: Any) -> Any:
        """Return a JSON value with all its texts stripped."""
        match value:
            case str():
                stripped = self._strip(value)
                return stripped if stripped == value else require_text("a text of the conversation", stripped)
            case list():
                return [self._strip_texts(item) for item in value]
            case dict():
                return {self._strip_texts(key): self._strip_texts(item) for key, item in value.items()}
        return value

    def _strip(self, text: str) -> str:
        """Return a text without special tokens, and without those that the removal of others creates."""
        assert self._pattern is not None
        count = 1
        while count:
            text, count = self._pattern.subn("", text)
        return text


def _texts_of(row: RawRow) -> Iterator[str]:
    """Yield the problem, the solution and all texts of the conversation."""
    yield row.problem
    yield row.solution
    if row.conversation is not None:
        yield from _texts_in(json.loads(row.conversation))


def _texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value, also the keys of objects."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts_in(item)
        case dict():
            for item in (*value, *value.values()):
                yield from _texts_in(item)
