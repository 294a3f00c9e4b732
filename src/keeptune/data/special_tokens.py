"""Finds the tokenizer's special tokens in the texts of rows.

A tokenizer turns the text `<|im_end|>` into the token that ends a turn. In a row, it would end the prompt or the answer
in the middle of a text, and it teaches the model to write such tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

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
        match = self._pattern.search(row.problem) or self._pattern.search(row.solution)
        if match is None:
            return row
        text = f"{row.problem}\n{row.solution}"
        if self._mode == "reject":
            reason = f"a special token in the text: found {match[0]!r}; remove it, or set data.special_tokens: strip"
            return reject(row.file, row.line, reason, text)
        try:
            problem = require_text("problem", self._strip(row.problem))
            solution = require_text("solution", self._strip(row.solution))
        except RowError as error:
            return reject(row.file, row.line, f"{error} without its special tokens", text)
        self.stripped += 1
        return row._replace(problem=problem, solution=solution)

    def _strip(self, text: str) -> str:
        """Return a text without special tokens, and without those that the removal of others creates."""
        assert self._pattern is not None
        count = 1
        while count:
            text, count = self._pattern.subn("", text)
        return text
