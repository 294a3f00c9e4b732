"""Stores the server's answers on disk, keyed by the hash of the request, so that no request is sent or paid for twice.

An interrupted run continues from the cache. The file is append-only with one line per answer. So a crash can leave at
most one incomplete last line, which is removed when the cache is opened.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from keeptune.errors import RunError
from keeptune.files import append_line, read_regular_bytes, write_error
from keeptune.remote_models.exchange import Answer, Request


class _Line(BaseModel):
    """A line of the file."""

    key: str
    answer: Answer


class AnswerCache:
    """The answers in the file at `path`, which need not exist.

    Raises:
        RunError: the file cannot be read or written, or has an invalid line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, Answer] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = read_regular_bytes(path) if path.exists() else b""
            complete_lines = content[: content.rfind(b"\n") + 1]
            if len(complete_lines) < len(content):
                # Otherwise, the next answer would be appended to the incomplete line and lost with it.
                os.truncate(path, len(complete_lines))
        except OSError as error:
            raise write_error(path, error) from None
        for number, text in enumerate(complete_lines.split(b"\n")[:-1], start=1):
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                raise RunError(
                    f"{path}:{number}: not a cached answer; delete the line, and the request is sent again"
                ) from None
            self._answers[line.key] = line.answer

    def get(self, request: Request) -> Answer | None:
        """Return the stored answer to a request, or None."""
        return self._answers.get(request.key)

    def put(self, request: Request, answer: Answer) -> None:
        """Store an answer."""
        line = _Line(key=request.key, answer=answer)
        append_line(self.path, json.dumps(line.model_dump(), ensure_ascii=False))
        self._answers[line.key] = answer
