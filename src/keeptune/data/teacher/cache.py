"""Answers of a server on disk, each under the hash of what was asked: nothing is asked, or paid, twice.

A run that is stopped half-way goes on from here. The file is only ever added to, one line an answer, so that the
worst that a crash can leave is a torn last line, which is cut off.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from keeptune.data.teacher.exchange import Answer, Request
from keeptune.errors import RunError
from keeptune.files import append_line, write_error


class _Line(BaseModel):
    """A line of the file."""

    key: str
    answer: Answer


class Cache:
    """The answers in the file at `path`, which may not be there yet.

    errors: RunError when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, Answer] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                # The next answer would else be written behind the torn one, and be lost with it.
                os.truncate(path, len(whole))
        except OSError as error:
            raise write_error(path, error) from None
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                raise RunError(
                    f"{path}:{number}: no answer of a server; delete the line, and it is asked again"
                ) from None
            self._answers[line.key] = line.answer

    def get(self, request: Request) -> Answer | None:
        """The stored answer, or None where it was never given."""
        return self._answers.get(request.key)

    def put(self, request: Request, answer: Answer) -> None:
        """Keeps an answer."""
        line = _Line(key=request.key, answer=answer)
        append_line(self.path, json.dumps(line.model_dump(), ensure_ascii=False))
        self._answers[line.key] = answer
