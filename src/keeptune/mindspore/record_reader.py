"""Reads MindRecord files without MindSpore and without their indexes: each page states which rows it holds.

The reader checks each length against the bytes that are left before it uses it, and each page must hold exactly the
rows that the header states. A damaged file therefore raises an error instead of yielding wrong rows. One kind of damage
goes undetected: a value replaced by another of the same size, because the format has no checksum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from keeptune.errors import DataError
from keeptune.mindspore.file_bytes import FileBytes
from keeptune.mindspore.integers import Integers, unpack_integers
from keeptune.mindspore.record import BLOB, LENGTH_BYTES, VERSION

Row = tuple[Integers, ...]
"""The values of a row's fields, in the requested order."""

_ROWS_PER_BATCH = 1024
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


def read_rows(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of a data set. `path` is any of its files; rows come from its shards in turn, as written.

    Raises:
        DataError: when a file is missing, damaged or not a MindRecord file, or lacks a requested field of 32-bit
            integers. Errors in the header are raised before the first row.
    """
    first = _Shard.open(path)
    shards = [first] if len(first.header.files) < 2 else _all_shards(first)
    positions = [first.field_position(name) for name in fields]
    return _interleave([shard.rows(positions) for shard in shards])


def _interleave(shards: list[Iterator[Row]]) -> Iterator[Row]:
    while shards:
        unfinished = []
        for rows in shards:
            if (row := next(rows, None)) is not None:
                yield row
                unfinished.append(rows)
        shards = unfinished


def _all_shards(first: _Shard) -> list[_Shard]:
    """The shards in order.

    Raises:
        DataError: when a shard is missing or belongs to another data set.
    """
    names, schema = first.header.files, first.header.schemas
    if any(name in ("", ".", "..") or Path(name).name != name for name in names):
        raise first.damaged("the name of a shard is not a file name")
    shards = []
    for number, name in enumerate(names):
        shard = _Shard.open(first.path.with_name(name))
        if (shard.header.files, shard.header.schemas, shard.header.shard) != (names, schema, number):
            raise DataError(f"{shard.path}: not shard {number} of the data set of {first.path}; copy all shards again")
        shards.append(shard)
    return shards


@dataclass(frozen=True, slots=True)
class _Shard:
    """A file with a valid header."""

    path: Path
    content: FileBytes
    header: _Header

    @classmethod
    def open(cls, path: Path) -> _Shard:
        try:
            content = FileBytes(path)
        except (OSError, ValueError) as error:  # ValueError: an invalid file name
            raise DataError(f"{path}: cannot be read ({error}); give a MindRecord file and all its shards") from None
        length = int.from_bytes(content[:LENGTH_BYTES], "little")
        if len(content) < LENGTH_BYTES or length > len(content) - LENGTH_BYTES:
            raise DataError(f"{path}: not a MindRecord file (no header); give a file that FileWriter wrote")
        try:
            header = _Header.model_validate_json(content[LENGTH_BYTES : LENGTH_BYTES + length])
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            key = ".".join(map(str, fault["loc"])) or "header"
            raise DataError(f"{path}: not a MindRecord file, or a damaged one ({key}: {fault['msg']})") from None
        if header.version != VERSION:
            raise DataError(f"{path}: MindRecord version must be {VERSION} (got {header.version}); write it again")
        shard = cls(path, content, header)
        shard._check_pages(length)
        return shard

    def damaged(self, reason: str) -> DataError:
        return DataError(f"{self.path}: damaged MindRecord file ({reason}); copy or write it again")

    def field_position(self, name: str) -> int:
        """The position of a field in a row.

        Raises:
            DataError: when the field does not exist or is not of 32-bit integers.
        """
        schema = self.header.schemas[0]
        type_ = schema.types.get(name)
        if type_ is None or type_.type != "int32" or name not in schema.blob_fields:
            fields = ", ".join(f"{field} ({type_.type})" for field, type_ in schema.types.items())
            raise DataError(f"{self.path}: no field {name!r} of int32 arrays; the fields are {fields}")
        return schema.blob_fields.index(name)

    def rows(self, positions: Sequence[int]) -> Iterator[Row]:
        """Yields the rows in order, with the fields at these positions."""
        for page in self._blob_pages():
            blobs = self._blobs(page)
            for start in range(page.first_row, page.end_row, _ROWS_PER_BATCH):
                end = min(start + _ROWS_PER_BATCH, page.end_row)
                batch = list(islice(blobs, end - start))
                if len(batch) < end - start:
                    raise self.damaged(f"page {page.number} ends before its last row")
                pieces = [piece for blob in batch for piece in self._fields(blob, positions)]
                try:
                    values = unpack_integers(pieces)
                except ValueError as error:
                    raise self.damaged(f"{error}, in rows {start:,} to {end - 1:,}") from None
                yield from zip(*(values[offset :: len(positions)] for offset in range(len(positions))), strict=True)
            if next(blobs, None) is not None:
                raise self.damaged(f"page {page.number} continues after its last row")

    def _blob_pages(self) -> list[_Page]:
        return sorted((page for page in self.header.pages if page.type == BLOB), key=lambda page: page.first_row)

    def _blobs(self, page: _Page) -> Iterator[tuple[int, int]]:
        """Yields the start and end offset of each row of a page.

        Raises:
            DataError: when a row extends beyond the page.
        """
        position = self.header.header_bytes + page.number * self.header.page_bytes
        end = position + page.used_bytes
        while position < end:
            begin = position + LENGTH_BYTES
            position = begin + int.from_bytes(self.content[position : min(begin, end)], "little")
            if position > end or begin > end:
                raise self.damaged(f"the row at byte {begin:,} is longer than its page")
            yield begin, position

    def _fields(self, blob: tuple[int, int], positions: Sequence[int]) -> list[bytes]:
        """The packed fields of a row.

        Raises:
            DataError: when the fields' lengths do not add up to the row's.
        """
        position, end = blob
        count = len(self.header.schemas[0].blob_fields)
        if count == 1:
            return [self.content[position:end]] * len(positions)
        fields = []
        for _ in range(count):
            begin = position + LENGTH_BYTES
            position = begin + int.from_bytes(self.content[position : min(begin, end)], "big")
            if position > end or begin > end:
                raise self.damaged(f"the field at byte {begin:,} is longer than its row")
            fields.append(self.content[begin:position])
        if position != end:
            raise self.damaged(f"the row that ends at byte {end:,} continues after its last field")
        return [fields[index] for index in positions]

    def _check_pages(self, header_length: int) -> None:
        """Checks that the pages lie within the file, do not overlap, and hold each row from 0 on once.

        Raises:
            DataError: when they do not.
        """
        header = self.header
        if LENGTH_BYTES + header_length > header.header_bytes:
            raise self.damaged("the header is longer than header_size")
        blobs = self._blob_pages()
        if any(previous.end_row != page.first_row for previous, page in pairwise(blobs)) or (
            blobs and blobs[0].first_row != 0
        ):
            raise self.damaged("the rows of its pages are not consecutive")
        for number, times in Counter(page.number for page in header.pages).items():
            if times > 1:
                raise self.damaged(f"page {number} appears twice")
        for page in header.pages:
            end = header.header_bytes + page.number * header.page_bytes + page.used_bytes
            if page.used_bytes > header.page_bytes or end > len(self.content):
                raise self.damaged(f"page {page.number} ends after the end of the file, or is too large")
            if page.type == BLOB and not 0 <= (page.end_row - page.first_row) * LENGTH_BYTES <= page.used_bytes:
                raise self.damaged(f"page {page.number} is too short for its rows")
