"""Which files rows come from, and the parts they are read in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keeptune.errors import DataError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that rows came from."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a file: bytes `start` to `end` (None: the whole file), of which the first line has this number."""

    file: str
    start: int
    end: int | None
    first_line: int


@dataclass(frozen=True, slots=True)
class Sources:
    """All files, and the parts they are read in."""

    files: list[SourceFile]
    shards: list[Shard]


def sources(names: Sequence[str]) -> Sources:
    """The files that were named."""
    return Sources([_source_file(Path(name)) for name in names], [Shard(name, 0, None, 1) for name in names])


def _source_file(path: Path) -> SourceFile:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return SourceFile(str(path), sha256, file.tell())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check data.files and its permissions") from None
