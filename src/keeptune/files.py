"""Files that are either whole or not there: written beside their place, flushed to disk, then moved into it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from keeptune.errors import RunError


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Puts what `write` writes at `path`, whole or not at all.

    errors: RunError naming the file when the disk is full or the folder cannot be written.
    """
    scratch = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(scratch)
        flush(scratch)
        scratch.replace(path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from None
        raise


def write_json(path: Path, value: Any) -> None:
    """Puts `value` at `path` as indented JSON, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    write_whole(path, lambda scratch: _write_text(scratch, text))


def write_text(path: Path, text: str) -> None:
    """Puts `text` at `path` as UTF-8, whole or not at all."""
    write_whole(path, lambda scratch: _write_text(scratch, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Adds a line to the file at `path`, whole or not at all.

    errors: RunError naming the file when the disk is full or the folder cannot be written.
    """
    try:
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(f"{line}\n".encode())
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> RunError:
    """The error for a file that cannot be written: what, where, and what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    return RunError(f"{path}: cannot be written ({reason}); free space or choose another folder, then run again")
