"""Writes MindRecord files, MindSpore's training data format, without MindSpore.

A file has a 16 MiB header and pages of 32 MiB. The header is its length and JSON, `{"schema", "page", ...}`. A blob
page holds the array fields of consecutive rows. A raw page holds the other fields, here a 0 per row, of several blob
pages. The rows of one blob page are a row group. Beside each file lies a SQLite index, `.db`, with the offsets of each
row. A data set can have several files, its shards.

The writer streams: it keeps only the row offsets of the current page in memory.
Source: mindspore 2.9.0, whose files are identical byte for byte, and its shard_writer.cc.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from keeptune.errors import DataError, RecipeError
from keeptune.files import write_error
from keeptune.mindspore.integers import Integers, pack_integers

VERSION = "3.0"
HEADER_BYTES = 16 * 2**20
PAGE_BYTES = 32 * 2**20
LENGTH_BYTES = 8
MAX_SHARDS = 1_000
BLOB: Literal["BLOB_DATA"] = "BLOB_DATA"
RAW: Literal["RAW_DATA"] = "RAW_DATA"

_NO_RAW_FIELDS = b"\x81\xa2id\x00"  # {"id": 0} as MessagePack
_RAW_ROW = len(_NO_RAW_FIELDS).to_bytes(LENGTH_BYTES, "little") + _NO_RAW_FIELDS
_CREATE_INDEX = (
    "CREATE TABLE INDEXES("
    "  ROW_ID               INT  NOT NULL, PAGE_ID_RAW          INT  NOT NULL"
    ", PAGE_OFFSET_RAW      INT  NOT NULL, PAGE_OFFSET_RAW_END  INT  NOT NULL"
    ", ROW_GROUP_ID         INT  NOT NULL, PAGE_ID_BLOB         INT  NOT NULL"
    ", PAGE_OFFSET_BLOB     INT  NOT NULL, PAGE_OFFSET_BLOB_END INT  NOT NULL, PRIMARY KEY(ROW_ID))"
)


def index_path(path: Path) -> Path:
    """The path of a file's SQLite index."""
    return path.with_name(f"{path.name}.db")


def shard_paths(path: Path, shards: int) -> list[Path]:
    """The files of a data set: `path` itself, or `path` followed by the number of each shard.

    Raises:
        RecipeError: when the number of shards is out of range.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise RecipeError(f"{path}: the number of shards must be 1 to {MAX_SHARDS:,} (got {shards:,})")
    if shards == 1:
        return [path]
    digits = len(str(shards - 1))
    return [path.with_name(f"{path.name}{number:0{digits}}") for number in range(shards)]


def write(path: Path, fields: Sequence[str], batches: Iterable[Integers], kind: str, shards: int = 1) -> list[Path]:
    """Writes a data set and its indexes into an existing folder, and returns the paths of the files.

    A batch has the shape (rows, fields, values), with fields in the order of `fields`. Rows go to the shards in turn.
    `kind` becomes the schema's description.

    Raises:
        DataError: when there are fewer rows than shards, or a row is larger than a page.
        RunError: when a file exists or cannot be written.
    """
    paths = shard_paths(path, shards)
    stored_fields = sorted(fields)  # MindSpore's order
    order = [list(fields).index(name) for name in stored_fields]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(closing(_Shard(shard))) for shard in paths]
            written, saved_bytes = 0, 0
            for batch in batches:
                values = batch.shape[-1]
                pieces = pack_integers(batch[:, order].reshape(len(batch) * len(order), values))
                saved_bytes += batch.size * batch.itemsize - sum(map(len, pieces))
                for start in range(0, len(pieces), len(order)):
                    files[written % shards].add(_blob(pieces[start : start + len(order)]))
                    written += 1
            if written < shards:
                raise DataError(f"{path}: {written} rows for {shards} shards; write at most one shard per row")
            header = {"schema": _schema(stored_fields, kind), "shard_addresses": [shard.name for shard in paths]}
            for number, file in enumerate(files):
                file.finish(number, {**header, "compression_size": max(0, saved_bytes)})
    except OSError as error:
        raise write_error(path, error) from None
    except sqlite3.Error as error:
        raise write_error(index_path(path), OSError(str(error))) from None
    return paths


@dataclass(slots=True)
class _Page:
    number: int
    type: str
    type_number: int
    used_bytes: int = 0
    first_row: int = 0
    end_row: int = 0
    groups: list[dict[str, int]] = field(default_factory=list)

    def description(self, shard: int) -> dict[str, Any]:
        return {
            "end_row_id": self.end_row,
            "page_id": self.number,
            "page_size": self.used_bytes,
            "page_type": self.type,
            "page_type_id": self.type_number,
            "row_group_ids": self.groups,
            "shard_id": shard,
            "start_row_id": self.first_row,
        }


class _Shard:
    """Writes one file of the data set and its index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("xb")
        self.index = sqlite3.connect(index_path(path), isolation_level=None)
        # The caller moves the finished file into place, so an interrupted write needs no journal.
        for statement in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", _CREATE_INDEX, "BEGIN"):
            self.index.execute(statement)
        self.pages: list[_Page] = []
        self.blobs = self._new_page(BLOB)
        self._seek(self.blobs)
        self.raws: _Page | None = None
        self.ends: list[int] = []

    def close(self) -> None:
        self.file.close()
        self.index.close()

    def add(self, blob: bytes) -> None:
        """Appends a row.

        Raises:
            DataError: when the row is larger than a page.
        """
        size = LENGTH_BYTES + len(blob)
        if size > PAGE_BYTES:
            raise DataError(f"{self.path}: a row takes {size:,} bytes; a MindRecord page holds {PAGE_BYTES:,}")
        if self.blobs.used_bytes + size > PAGE_BYTES:
            self._end_group()
            self.blobs = self._new_page(BLOB)
            self._seek(self.blobs)
        self.file.write(len(blob).to_bytes(LENGTH_BYTES, "little"))
        self.file.write(blob)
        self.blobs.used_bytes += size
        self.blobs.end_row += 1
        self.ends.append(self.blobs.used_bytes)

    def finish(self, number: int, header: dict[str, Any]) -> None:
        """Writes the header and completes the index."""
        self._end_group()
        self._write_header(number, header)
        self.index.execute("CREATE TABLE SHARD_NAME(NAME TEXT NOT NULL)")
        self.index.execute("INSERT INTO SHARD_NAME VALUES(?)", [self.path.name])
        self.index.execute("COMMIT")
        self.file.flush()

    def _new_page(self, type_: str) -> _Page:
        previous = [page for page in self.pages if page.type == type_]
        first_row = previous[-1].end_row if previous else 0
        page = _Page(len(self.pages), type_, len(previous), first_row=first_row, end_row=first_row)
        if type_ == BLOB:
            page.groups.append({"id": 0, "offset": 0})
        self.pages.append(page)
        return page

    def _end_group(self) -> None:
        """Writes the raw rows of the current blob page, and the offsets of its rows into the index."""
        rows = len(self.ends)
        raws, blobs = self.raws, self.blobs
        if raws is None or raws.used_bytes + rows * len(_RAW_ROW) > PAGE_BYTES:
            self.raws = raws = self._new_page(RAW)
        start, group = raws.used_bytes, blobs.type_number
        self._seek(raws)
        self.file.write(_RAW_ROW * rows)
        raws.groups.append({"id": group, "offset": start})
        raws.used_bytes += rows * len(_RAW_ROW)
        raw_ends = range(start, raws.used_bytes + 1, len(_RAW_ROW))
        ends = [0, *self.ends]
        self.index.executemany(
            "INSERT INTO INDEXES VALUES(?,?,?,?,?,?,?,?)",
            (
                (blobs.first_row + i, raws.number, *raw_ends[i : i + 2], group, blobs.number, *ends[i : i + 2])
                for i in range(rows)
            ),
        )
        self.ends = []

    def _seek(self, page: _Page) -> None:
        self.file.seek(HEADER_BYTES + page.number * PAGE_BYTES + page.used_bytes)

    def _write_header(self, number: int, header: dict[str, Any]) -> None:
        tree = {
            "header_size": HEADER_BYTES,
            "index_fields": None,
            "page": [page.description(number) for page in self.pages],
            "page_size": PAGE_BYTES,
            "compression_size": header["compression_size"],
            "schema": header["schema"],
            "shard_addresses": header["shard_addresses"],
            "shard_id": number,
            "statistics": None,
            "version": VERSION,
        }
        text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
        if LENGTH_BYTES + len(text) > HEADER_BYTES:
            raise DataError(f"{self.path}: too many pages for one file; use more shards")
        self.file.seek(0)
        self.file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)


def _schema(fields: Sequence[str], kind: str) -> list[dict[str, Any]]:
    types = {name: {"shape": [-1], "type": "int32"} for name in fields}
    return [{"blob_fields": list(fields), "desc": kind, "schema": types}]


def _blob(pieces: Sequence[bytes]) -> bytes:
    """A row's fields in the file format: a single field as is, several fields each after its length."""
    if len(pieces) == 1:
        return pieces[0]
    return b"".join(part for piece in pieces for part in (len(piece).to_bytes(LENGTH_BYTES, "big"), piece))
