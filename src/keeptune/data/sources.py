"""Which files there are, and how they are cut: one pass over each tells its hash, and where its lines can be divided
so that several processes read one file."""

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
from keeptune.data.row import is_utf8
from keeptune.data.stream import BYTE_ORDER_MARK, CODECS, unreadable
from keeptune.errors import DataError

Form = Literal["json", "csv", "parquet"]

SHARD_BYTES = 8 << 20
_BLOCK_BYTES = 2 << 20
_CONVERSATIONS = b'"conversations"'
_FORMS: dict[str, Form] = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that rows came from, or a data set hf:NAME#SPLIT."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a file that can be read by itself: from the byte `start`, where `first_line` begins, up to `end`.

    Without an end it is a whole file, of whatever form; with one it is a part of a JSON Lines file.
    """

    file: str
    start: int = 0
    end: int | None = None
    first_line: int = 1


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that names stand for, and the shards that make them up, both in reading order."""

    files: list[SourceFile]
    shards: list[Shard]


def sources(names: Sequence[str], shard_bytes: int = SHARD_BYTES) -> Sources:
    """What the names in data.files stand for: files, all known files in folders, globs, and data sets hf:NAME#SPLIT.

    Names are taken in their order, what is found in a folder or by a glob sorted; each file once. A shard has about
    `shard_bytes`.

    errors: DataError when a name stands for nothing, and when a file cannot be read or is empty; RecipeError for a
    Hugging Face data set where the library that fetches it is not installed.
    """
    files, shards = [], []
    for name in dict.fromkeys(chain.from_iterable(map(_expanded, names))):
        if hub.is_named(name):
            files.append(SourceFile(name, *hub.digest(name)))
            shards.append(Shard(name))
        else:
            file, own = _scanned(Path(name), shard_bytes)
            files.append(file)
            shards += own
    return Sources(files, shards)


def form(path: Path) -> Form:
    """How the rows of a file are written, as its name tells; JSON where it does not."""
    return _FORMS.get(_ending(path), "json")


def _ending(path: Path) -> str:
    """What the name ends in, but for the ending of compressed files."""
    return (Path(path.stem) if path.suffix.lower() in CODECS else path).suffix.lower()


def _expanded(name: str) -> list[str]:
    """The files or the data set that a name stands for."""
    if hub.is_named(name):
        return [hub.whole_name(name)]
    path = Path(name)
    try:
        is_folder, is_file, is_there = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:
        raise unreadable(path, error) from None
    if is_there and not is_folder and not is_file:
        raise DataError(f"{name}: neither a file nor a folder; it is read more than once, so save it as a file")
    if is_folder:
        found = sorted(_files_below(path))
        lacking = f"no file in this folder ends in {', '.join(_FORMS)}, also with .gz or .zst behind it"
    elif is_file or not glob.has_magic(name):
        return [str(path)]
    else:
        matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        found = sorted(str(path) for path in matches if path.is_file())
        lacking = "no file matches"
    if not found:
        raise DataError(f"{name}: {lacking}; check the name")
    return found


def _files_below(folder: Path) -> Iterator[str]:
    """The files in a folder and the folders in it that end as known forms do. Hidden ones are left out: programs
    keep their own copies there."""

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from None

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _ending(Path(name)) in _FORMS and not name.startswith("."):
                yield str(Path(parent, name))


def _scanned(path: Path, shard_bytes: int) -> tuple[SourceFile, list[Shard]]:
    """The hash of a file, and its shards."""
    name = str(path)
    if not is_utf8(name):
        raise DataError(f"{name!a}: the name is not UTF-8, so no record can name the file; rename it")
    sha256 = hashlib.sha256()
    cutter = _Cutter(shard_bytes) if form(path) == "json" and path.suffix.lower() not in CODECS else None
    size_bytes = 0
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                sha256.update(block)
                size_bytes += len(block)
                if cutter:
                    cutter.add(block)
    except OSError as error:
        raise unreadable(path, error) from None
    if size_bytes == 0 or (cutter and not cutter.opening):
        raise DataError(f"{path}: the file is empty; give one with rows")
    return SourceFile(name, sha256.hexdigest(), size_bytes), cutter.shards(name) if cutter else [Shard(name)]


class _Cutter:
    """Finds where a file can be cut, while its blocks go by."""

    def __init__(self, shard_bytes: int) -> None:
        self._shard_bytes = shard_bytes
        self._size_bytes = 0
        self._lines = 0
        self._cuts = [(0, 1)]
        """Where each shard starts, and the number of the line there."""
        self.opening = b""
        """The first character that is not a space: a list cannot be cut."""
        self._last = b""
        self._conversations = False

    def add(self, block: bytes) -> None:
        """Takes the next block in."""
        if not self.opening:
            text = block.removeprefix(BYTE_ORDER_MARK) if self._size_bytes == 0 else block
            self.opening = text.lstrip()[:1]
        if not self._conversations:
            overlap = len(_CONVERSATIONS) - 1
            self._conversations = _CONVERSATIONS in block or _CONVERSATIONS in self._last + block[:overlap]
            self._last = (self._last + block[-overlap:])[-overlap:]
        counted = 0
        while (end := block.find(b"\n", self._target(counted)) + 1) > 0:
            self._lines += block.count(b"\n", counted, end)
            self._cuts.append((self._size_bytes + end, self._lines + 1))
            counted = end
        self._lines += block.count(b"\n", counted)
        self._size_bytes += len(block)

    def shards(self, file: str) -> list[Shard]:
        """The shards of the file, once all of it has gone by. One for conversations: their ids are compared."""
        if self.opening == b"[" or self._conversations:
            return [Shard(file)]
        ends = [start for start, _ in self._cuts[1:]] + [self._size_bytes]
        return [
            Shard(file, start, end, line) for (start, line), end in zip(self._cuts, ends, strict=True) if start < end
        ]

    def _target(self, counted: int) -> int:
        """Where in the block the shard at hand is large enough."""
        start, _ = self._cuts[-1]
        return max(counted, start + self._shard_bytes - 1 - self._size_bytes)
