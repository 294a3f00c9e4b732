"""Files and folders that are whole or not there: written beside their place, flushed, moved into it; and read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

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


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which then takes the place of `folder`: whole or not at all.

    errors: RunError naming it when the disk is full or it cannot be written.
    """
    scratch = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        # A process that was killed while it wrote may have had our id: in a container that is likely.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        for path in (*scratch.rglob("*"), scratch):
            flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.replace(folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:  # safetensors' own type, when the disk is full
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder that must not be there yet. errors: RunError also where it is."""
    if folder.exists():
        raise RunError(f"{folder}: it exists already; choose another folder, or delete it first")
    with whole_folder(folder) as scratch:
        yield scratch


def write_json(path: Path, value: Any) -> None:
    """Puts `value` at `path` as indented JSON, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    write_whole(path, lambda scratch: _write_text(scratch, text))


def write_text(path: Path, text: str) -> None:
    """Puts `text` at `path` as UTF-8, whole or not at all."""
    write_whole(path, lambda scratch: _write_text(scratch, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Puts one JSON object a line at `path`, whole or not at all."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file. errors: RunError when it is missing or damaged."""
    try:
        # Not splitlines: a model may write U+2028 and the like, which JSON leaves inside a string.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it and run the same command again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. errors: RunError when it is missing or damaged."""
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return tree
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it and run the same command again") from None


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


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes. errors: RunError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); run the stage that makes it again") from None


def unwritable(path: Path, error: OSError | SafetensorError) -> RunError:
    """The error for a file that cannot be written: what, where, and what to do."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return RunError(f"{path}: cannot be written ({reason}); free space or choose another folder, then run again")
