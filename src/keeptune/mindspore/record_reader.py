"""MindRecord files read without MindSpore and without their databases: pages say by themselves which rows they hold.

Reading trusts nothing: every length is compared with what is left before it is used, and a page has to hold exactly the
rows that the header tells of, so a damaged file ends in an error and not in rows that were never written. What no check
can find is another value in the place of one that is as long: the format has no checksum.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from keeptune.errors import DataError
from keeptune.mindspore.integers import Integers, unpacked
from keeptune.mindspore.record import BLOB, LENGTH_BYTES, VERSION

Row = tuple[Integers, ...]
"""The values of the fields of a row, in the order in which the fields were asked for."""

_ROWS_AT_ONCE = 1024
_Natural = Annotated[int, Field(ge=0, lt=2**63)]


class _Page(BaseModel, strict=True):
    number: _Natural = Field(alias="page_id")
    type: Literal["BLOB_DATA", "RAW_DATA"] = Field(alias="page_type")
    used_bytes: _Natural = Field(alias="page_size")
    first_row: _Natural = Field(alias="start_row_id")
    end_row: _Natural = Field(alias="end_row_id")


class _FieldType(BaseModel, strict=True):
    type: str


class _Schema(BaseModel, strict=True):
    blob_fields: list[str]
    types: dict[str, _FieldType] = Field(alias="schema")


class _Header(BaseModel, strict=True):
    version: str
    header_bytes: Annotated[int, Field(ge=LENGTH_BYTES, lt=2**63)] = Field(alias="header_size")
    page_bytes: Annotated[int, Field(ge=LENGTH_BYTES, lt=2**63)] = Field(alias="page_size")
    pages: list[_Page] = Field(alias="page")
    schemas: Annotated[list[_Schema], Field(min_length=1, max_length=1)] = Field(alias="schema")
    files: list[str] = Field(alias="shard_addresses")
    shard: _Natural = Field(alias="shard_id")


def read(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    """The rows of a data set of which `path` is a file: one of each shard in turn, as `record.write` deals them out.

    errors: DataError when a file is missing, damaged or no MindRecord, or lacks a field of 32-bit integers; before the
    first row where the header tells, else where the rows are.
    """
    first = _Shard.open(path)
    shards = [first] if len(first.header.files) < 2 else _all_shards(first)
    places = [first.place(name) for name in fields]
    return _in_turn([shard.rows(places) for shard in shards])


def _in_turn(shards: list[Iterator[Row]]) -> Iterator[Row]:
    while shards:
        left = []
        for rows in shards:
            if (row := next(rows, None)) is not None:
                yield row
                left.append(rows)
        shards = left


def _all_shards(first: _Shard) -> list[_Shard]:
    """The shards in their order. errors: DataError when one is missing or is not of this data set."""
    names, schema = first.header.files, first.header.schemas
    if any(name in ("", ".", "..") or Path(name).name != name for name in names):
        raise first.damaged("the name of a shard is no file name")
    shards = []
    for number, name in enumerate(names):
        shard = _Shard.open(first.path.with_name(name))
        if (shard.header.files, shard.header.schemas, shard.header.shard) != (names, schema, number):
            raise DataError(f"{shard.path}: not shard {number} of the data set that {first.path} is of; copy all anew")
        shards.append(shard)
    return shards


@dataclass(frozen=True, slots=True)
class _Shard:
    """A file whose header is whole and fits the file."""

    path: Path
    view: memoryview
    header: _Header

    @classmethod
    def open(cls, path: Path) -> _Shard:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise DataError(f"{path}: cannot be read ({error}); give a MindRecord file with all its shards") from None
        length = int.from_bytes(view[:LENGTH_BYTES], "little")
        if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
            raise DataError(f"{path}: no MindRecord file (it has no header); give one that FileWriter wrote")
        try:
            header = _Header.model_validate_json(bytes(view[LENGTH_BYTES : LENGTH_BYTES + length]))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            at = ".".join(map(str, fault["loc"])) or "the header"
            raise DataError(f"{path}: no MindRecord file, or a damaged one ({at}: {fault['msg']})") from None
        if header.version != VERSION:
            raise DataError(f"{path}: MindRecord {header.version}, and only {VERSION} can be read; write it anew")
        shard = cls(path, view, header)
        shard._check_pages(length)
        return shard

    def damaged(self, reason: str) -> DataError:
        return DataError(f"{self.path}: a damaged MindRecord file ({reason}); copy or write it again")

    def place(self, name: str) -> int:
        """Which of a row's fields this is. errors: DataError when it is none, or not of 32-bit integers."""
        schema = self.header.schemas[0]
        type_ = schema.types.get(name)
        if type_ is None or type_.type != "int32" or name not in schema.blob_fields:
            found = ", ".join(f"{name} ({own.type})" for name, own in schema.types.items())
            raise DataError(f"{self.path}: it has no field {name!r} of int32 arrays; its fields are {found}")
        return schema.blob_fields.index(name)

    def rows(self, places: Sequence[int]) -> Iterator[Row]:
        """The rows in their order, with the fields at these places."""
        for page in self._blob_pages():
            blobs = self._blobs(page)
            for start in range(page.first_row, page.end_row, _ROWS_AT_ONCE):
                end = min(start + _ROWS_AT_ONCE, page.end_row)
                found = list(islice(blobs, end - start))
                if len(found) < end - start:
                    raise self.damaged(f"page {page.number} ends before its last row")
                pieces = [piece for blob in found for piece in self._fields(blob, places)]
                try:
                    values = unpacked(pieces)
                except ValueError as error:
                    raise self.damaged(f"{error}, in rows {start:,} to {end - 1:,}") from None
                yield from zip(*(values[offset :: len(places)] for offset in range(len(places))), strict=True)
            if next(blobs, None) is not None:
                raise self.damaged(f"page {page.number} goes on behind its last row")

    def _blob_pages(self) -> list[_Page]:
        return sorted((page for page in self.header.pages if page.type == BLOB), key=lambda page: page.first_row)

    def _blobs(self, page: _Page) -> Iterator[tuple[int, int]]:
        """Where each row of a page begins and ends. errors: DataError unless the page ends where a row ends."""
        at = self.header.header_bytes + page.number * self.header.page_bytes
        end = at + page.used_bytes
        while at < end:
            begin = at + LENGTH_BYTES
            at = begin + int.from_bytes(self.view[at : min(begin, end)], "little")
            if at > end or begin > end:
                raise self.damaged(f"a row at byte {begin:,} is longer than its page")
            yield begin, at

    def _fields(self, blob: tuple[int, int], places: Sequence[int]) -> list[memoryview]:
        """The stored fields of a row. errors: DataError where its lengths do not add up."""
        at, end = blob
        count = len(self.header.schemas[0].blob_fields)
        if count == 1:
            return [self.view[at:end]] * len(places)
        found = []
        for _ in range(count):
            begin = at + LENGTH_BYTES
            at = begin + int.from_bytes(self.view[at : min(begin, end)], "big")
            if at > end or begin > end:
                raise self.damaged(f"a field at byte {begin:,} is longer than its row")
            found.append(self.view[begin:at])
        if at != end:
            raise self.damaged(f"the row that ends at byte {end:,} goes on behind its last field")
        return [found[place] for place in places]

    def _check_pages(self, header_length: int) -> None:
        """errors: DataError unless the pages lie within the file, apart, and hold the rows from 0 on, once each."""
        header = self.header
        if LENGTH_BYTES + header_length > header.header_bytes:
            raise self.damaged("the header is longer than it says")
        blobs = self._blob_pages()
        if any(before.end_row != page.first_row for before, page in pairwise(blobs)) or (
            blobs and blobs[0].first_row != 0
        ):
            raise self.damaged("the pages do not follow each other")
        for number, times in Counter(page.number for page in header.pages).items():
            if times > 1:
                raise self.damaged(f"page {number} stands there twice")
        for page in header.pages:
            end = header.header_bytes + page.number * header.page_bytes + page.used_bytes
            if page.used_bytes > header.page_bytes or end > len(self.view):
                raise self.damaged(f"page {page.number} ends behind the end of the file, or of a page")
            if page.type == BLOB and not 0 <= (page.end_row - page.first_row) * LENGTH_BYTES <= page.used_bytes:
                raise self.damaged(f"page {page.number} is too short for its rows")
