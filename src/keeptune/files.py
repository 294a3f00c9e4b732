"""Writes files and folders atomically, and reads JSON.

A file is written under a temporary name in the same folder, flushed to the disk, and renamed. A reader therefore sees
either the old content or the complete new content.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from keeptune.errors import RunError

if TYPE_CHECKING:  # importing it takes time that `keeptune --help` does not need
    from pydantic import BaseModel

Record = dict[str, Any]
"""A JSON object, such as one line of a JSON Lines file. keeptune.run_files has the schema of each file of a run."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a temporary path and then moves that file to `path`.

    Raises:
        RunError: naming the file, when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        flush(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from None
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write into, which then replaces `folder`.

    Raises:
        RunError: naming the folder, when the disk is full or it cannot be written.
    """
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        # A killed process may have left this folder under the same process id, which is likely in a container.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error when the disk is full
        raise write_error(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


LOCK = ".lock"
"""The name of a lock file. A killed process leaves it."""

_TEMPORARY = re.compile(r".+\.tmp-[0-9]+|scratch-[a-z0-9_]{8}")
"""Names of temporary files and folders: those of this module, and those of the data stage."""


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is one that only a running or killed process needs."""
    return path.name == LOCK or _TEMPORARY.fullmatch(path.name) is not None


def is_vacant(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing but what a killed process has left."""
    return not folder.is_dir() or all(map(is_leftover, folder.iterdir()))


def remove_temporary_files(folder: Path) -> None:
    """Removes what killed processes have left in `folder` and its subfolders. No other process may write there."""
    with suppress(OSError):
        for path in (*folder.glob("*"), *folder.glob("*/*")):
            if not _TEMPORARY.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write into, which then becomes the new folder `folder`.

    Raises:
        RunError: when `folder` exists, or as in `atomic_folder`.
    """
    if folder.exists():
        raise RunError(f"{folder}: already exists; choose another folder, or delete it")
    with atomic_folder(folder) as temporary:
        yield temporary


def write_json(path: Path, record: Record) -> None:
    """Writes an object as indented JSON, atomically; `read_json` reads it."""
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, atomically."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Writes JSON Lines, one object per line, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_records(path: Path, schema: type[BaseModel] | None = None) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, after validation of each by a schema.

    Raises:
        RunError: when the file is missing or damaged, with the line and the key.
    """
    # Not splitlines: it also splits at U+2028 and similar characters, which JSON strings may contain.
    lines = _read(path).split("\n")
    return [parse_record(f"{path}:{number}", line, schema) for number, line in enumerate(lines, start=1) if line]


def read_json(path: Path, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """The object in a JSON file, after validation by a schema.

    Raises:
        RunError: when the file is missing or damaged, with the key.
    """
    return parse_record(str(path), _read(path), schema)


@contextmanager
def stored_content(where: object) -> Iterator[None]:
    """Context for code that uses stored content which no schema describes; `where` names its file or folder.

    Raises:
        RunError: instead of the errors that a missing key or a value of another type causes.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise _damaged_error(where, f"{type(error).__name__}: {error}") from None


def _read(path: Path) -> str:
    try:
        return read_regular_bytes(path).decode()
    except FileNotFoundError:
        raise RunError(
            f"{path}: cannot be read (no such file); repeat the command that writes it, such as `keeptune run`"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged_error(path, error) from None


def parse_record(where: str, text: str, schema: type[BaseModel] | None) -> dict[str, Any]:
    """The object in a JSON text from `where`, after validation by a schema.

    Raises:
        RunError: when the text is damaged, with the key.
    """
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise ValueError(f"a JSON object is expected, not {type(tree).__name__}")
        if schema:
            schema.model_validate(tree)
    except (ValueError, RecursionError) as error:
        raise _damaged_error(where, error) from None
    return tree


def _damaged_error(where: object, error: object) -> RunError:
    errors = getattr(error, "errors", None)  # of a pydantic.ValidationError
    if errors:
        error = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in errors()[:3])
    return RunError(f"{where}: damaged ({error}); delete it and repeat the command that writes it")


def append_line(path: Path, line: str) -> None:
    """Appends a line to a file. If that fails, the file keeps its previous content.

    Raises:
        RunError: naming the file, when the disk is full or the folder cannot be written.
    """
    try:
        previous_size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(f"{line}\n".encode())
        except OSError:
            with suppress(OSError):
                os.truncate(path, previous_size)
            raise
    except OSError as error:
        raise write_error(path, error) from None


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading. A pipe would wait for a writer, and a device may never end.

    Raises:
        OSError: when the file cannot be opened, or is no regular file; `strerror` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            reason = os.strerror(number) if stat.S_ISDIR(mode) else "not a regular file but a pipe or a device"
            raise OSError(number, reason, str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as in `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def flush(path: Path) -> None:
    """Waits until a file or folder is written to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        RunError: when the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{path}: cannot be read ({reason}); repeat the stage that writes it") from None


def sha256_if_file(path: Path) -> str | None:
    """The SHA-256 of a file's bytes, or None where there is no regular file, or can be none under this name.

    For names that come from a file: `Path.is_file` raises an error when a name is too long.

    Raises:
        RunError: when the file cannot be read.
    """
    try:
        is_file = path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise RunError(f"{path}: cannot be read ({error.strerror}); check its name and its permissions") from None
    return file_sha256(path) if is_file else None


def write_error(path: Path, error: OSError | SafetensorError) -> RunError:
    """The error for a file that cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return RunError(
        f"{path}: cannot be written ({reason}); free space or choose another folder, then repeat the command"
    )
