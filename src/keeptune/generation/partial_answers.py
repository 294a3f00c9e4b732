"""Answers of an evaluation that is not complete yet, so that an interrupted one does not start again.

The engine decodes prompts in blocks, which the prompts alone determine. A finished block is appended to a file; a
resumed evaluation reads it and decodes the other blocks. Every block is decoded beside the same rows as without an
interruption, so that the answers are the same to the last bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path

from keeptune.errors import RunError
from keeptune.files import append_line, read_regular_bytes
from keeptune.generation.scheduling import Row

StoredAnswer = tuple[str, int, bool]
"""Text, number of tokens, and whether the answer stopped."""

_current: ContextVar[PartialAnswers | None] = ContextVar("partial_answers", default=None)


class PartialAnswers:
    """The finished blocks of one evaluation, in a JSON Lines file that is read once and then appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blocks: dict[str, list[StoredAnswer]] = {}
        with suppress(OSError):
            content = read_regular_bytes(path)
            complete = content.rfind(b"\n") + 1
            if complete < len(content):  # a killed process wrote only a part of its last line
                os.truncate(path, complete)
            for line in content[:complete].split(b"\n"):
                self._read_block(line)

    def _read_block(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError, RecursionError):  # a damaged line is decoded again
            block = json.loads(line)
            self._blocks[block["block"]] = [(str(text), int(n), bool(end)) for text, n, end in block["answers"]]

    def find(self, block: str) -> list[StoredAnswer] | None:
        """The answers of a block, or None if it is not stored."""
        return self._blocks.get(block)

    def add(self, block: str, answers: Sequence[StoredAnswer]) -> None:
        """Stores the answers of a block. A full disk is no reason to stop an evaluation."""
        with suppress(RunError, OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, json.dumps({"block": block, "answers": answers}, ensure_ascii=False))

    def remove(self) -> None:
        """Deletes the file, when the records of the evaluation are stored."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextmanager
def stored_answers(path: Path) -> Iterator[PartialAnswers]:
    """Context in which the engine of this process stores finished blocks in `path` and reads those of earlier runs."""
    answers = PartialAnswers(path)
    token = _current.set(answers)
    try:
        yield answers
    finally:
        _current.reset(token)


def current_answers() -> PartialAnswers | None:
    """The answers of the evaluation that runs in this process, or None outside of one."""
    return _current.get()


def block_key(rows: Sequence[Row], rule: str) -> str:
    """The hash of what the answers of a block depend on besides the model: its rows, and the rule that ends them."""
    facts = [[row.index, row.prompt, row.budget, row.invocation_start] for row in rows]
    return sha256(json.dumps([rule, facts]).encode()).hexdigest()
