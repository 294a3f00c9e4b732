"""Resolves the names in data.files to files, hashes them, and divides them into shards.

One pass over each file computes its SHA-256 and finds the line boundaries at which several processes can read it.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from keeptune.data import hub
from keeptune.data.json_document import is_partial_object
from keeptune.data.row import MAX_ROW_BYTES, is_utf8
from keeptune.data.stream import BYTE_ORDER_MARK, CODECS, UTF16_MARKS, unreadable_error
from keeptune.errors import DataError
from keeptune.files import open_regular

FileFormat = Literal["json", "csv", "tsv", "parquet"]

SHARD_BYTES = 8 << 20
_BLOCK_BYTES = 2 << 20
_CONVERSATIONS = b'"conversations"'
_FORMATS: dict[str, FileFormat] = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An input file, or a data set hf:NAME#SPLIT, with its SHA-256 and its size in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a file that can be read independently: the bytes from `start` to `end`.

    `first_line` is the number of the line at `start`. If `end` is None, the shard is a whole file of any format;
    otherwise, it is a part of a JSON Lines file.
    """

    file: str
    start: int = 0
    end: int | None = None
    first_line: int = 1


@dataclass(frozen=True, slots=True)
class Sources:
    """The resolved files and their shards, both in reading order."""

    files: list[SourceFile]
    shards: list[Shard]


def resolve_sources(names: Sequence[str], shard_bytes: int = SHARD_BYTES) -> Sources:
    """Resolve the names in data.files: files, folders, globs, and data sets hf:NAME#SPLIT.

    Names keep their order; the files of a folder or glob are sorted; each file is used once. A shard has about
    `shard_bytes`.

    Raises:
        DataError: a name matches nothing, or a file cannot be read or is empty.
        RecipeError: a name is a Hugging Face data set and the library `datasets` is not installed.
    """
    files, shards = [], []
    for name in list_source_files(names):
        if hub.is_hub_name(name):
            files.append(SourceFile(name, *hub.content_digest(name)))
            shards.append(Shard(name))
        else:
            file, file_shards = _scan_file(Path(name), shard_bytes)
            files.append(file)
            shards += file_shards
    return Sources(files, shards)


def list_source_files(names: Sequence[str]) -> list[str]:
    """Return the files, or data sets, that the names denote, each once, in reading order.

    Raises:
        DataError: a name matches nothing, or is neither a file nor a folder.
    """
    return list(dict.fromkeys(chain.from_iterable(map(_expand, names))))


def file_format(path: Path) -> FileFormat:
    """Return the format that the file name indicates. Unknown suffixes are read as JSON."""
    return _FORMATS.get(_format_suffix(path), "json")


def _format_suffix(path: Path) -> str:
    """Return the suffix of the name in lower case, ignoring the suffix of compressed files."""
    return (Path(path.stem) if path.suffix.lower() in CODECS else path).suffix.lower()


def _expand(name: str) -> list[str]:
    """Return the files, or the data set, that a name denotes."""
    if hub.is_hub_name(name):
        return [hub.with_default_split(name)]
    path = Path(name)
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:
        raise unreadable_error(path, error) from None
    if exists and not is_folder and not is_file:
        raise DataError(f"{name}: neither a file nor a folder; save it as a file, because it is read more than once")
    if is_folder:
        files = sorted(_files_below(path))
        problem = f"no file in this folder ends in {', '.join(_FORMATS)}, optionally followed by .gz or .zst"
    elif is_file or not glob.has_magic(name):
        return [str(path)]
    else:
        files = sorted(str(path) for path in _matches(path) if path.is_file())
        problem = "no file matches"
    if not files:
        raise DataError(f"{name}: {problem}; check the name")
    return files


def _matches(pattern: Path) -> Iterator[Path]:
    """Yield the paths that a pattern matches, without hidden ones that it does not name.

    Unlike glob.glob, `**` does not follow links to folders: with a link to its own parent it would hardly end.
    """
    root = Path(pattern.anchor or ".")
    parts = pattern.relative_to(pattern.anchor).parts
    patterns = [Path(*parts)]
    if parts[-1] == "**":  # Path.glob matches only folders then
        patterns.append(Path(*parts, "*"))
    for one in patterns:
        for path in root.glob(str(one)):
            if not any(part.startswith(".") and part not in parts for part in path.relative_to(root).parts):
                yield path


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the files of known formats in a folder and its subfolders.

    Hidden files and folders are skipped, because programs keep their own copies there.
    """

    def fail(error: OSError) -> None:
        raise unreadable_error(Path(error.filename), error) from None

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _format_suffix(Path(name)) in _FORMATS and not name.startswith("."):
                yield str(Path(parent, name))


def _scan_file(path: Path, shard_bytes: int) -> tuple[SourceFile, list[Shard]]:
    """Return a file with its hash, and its shards."""
    name = str(path)
    if not is_utf8(name):
        raise DataError(f"{name!a}: the file name is not UTF-8 and cannot be stored in records; rename the file")
    sha256 = hashlib.sha256()
    is_divisible = file_format(path) == "json" and path.suffix.lower() not in CODECS
    planner = _ShardPlanner(shard_bytes) if is_divisible else None
    size_bytes = 0
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK_BYTES):
                sha256.update(block)
                size_bytes += len(block)
                if planner:
                    planner.add(block)
    except OSError as error:
        raise unreadable_error(path, error) from None
    if size_bytes == 0 or (planner and not planner.first_character):
        raise DataError(f"{path}: the file is empty; provide a file with rows")
    return SourceFile(name, sha256.hexdigest(), size_bytes), planner.shards(name) if planner else [Shard(name)]


class _ShardPlanner:
    """Finds the shard boundaries of a JSON Lines file while its blocks are read once."""

    def __init__(self, shard_bytes: int) -> None:
        self._shard_bytes = shard_bytes
        self._size_bytes = 0
        self._lines = 0
        self._starts = [(0, 1)]
        """The byte at which each shard starts, and the number of the line there."""
        self.first_character = b""
        """The first byte that is not white space. It is `[` for a list, which cannot be divided."""
        self._first_line = b""
        """The first line that is not blank, cut after 1 MB."""
        self._previous_end = b""
        self._has_conversations = False
        self._is_utf16 = False

    def add(self, block: bytes) -> None:
        """Process the next block of the file."""
        if self._size_bytes == 0:
            self._is_utf16 = block.startswith(UTF16_MARKS)
        if not self.first_character:
            text = block.removeprefix(BYTE_ORDER_MARK) if self._size_bytes == 0 else block
            self.first_character = text.lstrip()[:1]
            self._first_line = text.lstrip()
        elif b"\n" not in self._first_line and len(self._first_line) <= MAX_ROW_BYTES:
            self._first_line += block
        if not self._has_conversations:
            overlap = len(_CONVERSATIONS) - 1
            boundary = self._previous_end + block[:overlap]
            self._has_conversations = _CONVERSATIONS in block or _CONVERSATIONS in boundary
            self._previous_end = (self._previous_end + block[-overlap:])[-overlap:]
        counted = 0
        while (end := block.find(b"\n", self._earliest_end(counted)) + 1) > 0:
            self._lines += block.count(b"\n", counted, end)
            self._starts.append((self._size_bytes + end, self._lines + 1))
            counted = end
        self._lines += block.count(b"\n", counted)
        self._size_bytes += len(block)

    def shards(self, file: str) -> list[Shard]:
        """Return the shards after the last block.

        Lists, files in UTF-16 and conversation files are one shard, because conversation ids must be unique within a
        file. So is a file that may be one object with a list of rows.
        """
        first_line, _, others = self._first_line.partition(b"\n")
        may_be_object = self.first_character == b"{" and (
            not others.strip() or is_partial_object(first_line.decode(errors="replace"))
        )
        if self._is_utf16 or self.first_character == b"[" or self._has_conversations or may_be_object:
            return [Shard(file)]
        ends = [start for start, _ in self._starts[1:]] + [self._size_bytes]
        return [
            Shard(file, start, end, line) for (start, line), end in zip(self._starts, ends, strict=True) if start < end
        ]

    def _earliest_end(self, counted: int) -> int:
        """Return the position in the block from which the current shard is large enough to end."""
        start, _ = self._starts[-1]
        return max(counted, start + self._shard_bytes - 1 - self._size_bytes)
