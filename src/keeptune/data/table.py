"""Reads rows from tables: Parquet files and Hugging Face data sets.

The recipe names the columns. By default they are those of the first format of `row_formats` that the table has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.config.data import ColumnsSection
from keeptune.data import hub
from keeptune.data.row import (
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    RawRow,
    RejectedRow,
    RowError,
    is_utf8,
    reject,
    require_text,
)
from keeptune.data.row_formats import (
    EXPECTED_KEYS,
    RowFormat,
    dropped_keys_advice,
    find_format,
    from_python,
    list_names,
)
from keeptune.data.stream import CODECS, open_bytes
from keeptune.errors import DataError

_BATCH_ROWS = 1_000
_BUFFER_BYTES = 1 << 20
_TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())


def read_parquet(path: Path, columns: ColumnsSection, conversations: bool = False) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a Parquet file. The line of a row is its number, counted from 1.

    Raises:
        DataError: the file is missing, unreadable, damaged, compressed or empty, or lacks the columns.
    """
    if path.suffix.lower() in CODECS:
        raise DataError(f"{path}: cannot read a compressed Parquet file (Parquet compresses its columns); unpack it")
    with open_bytes(path) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
            layout = find_columns(str(path), file.schema_arrow.names, columns, conversations)
            batches = file.iter_batches(_BATCH_ROWS, columns=layout.names, use_threads=False)
            yield from _rows(str(path), batches, layout)
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names that are not UTF-8
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({error}); write the file again") from None


def read_hub(name: str, columns: ColumnsSection, conversations: bool = False) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the data set hf:NAME#SPLIT. The line of a row is its number, counted from 1.

    Raises:
        RecipeError: the library `datasets` is not installed.
        DataError: the data set cannot be loaded, is empty, or lacks the columns.
    """
    tables = hub.load_tables(name)
    first = next(tables, None)
    if first is None:
        raise _empty_table_error(name)
    layout = find_columns(name, first.schema.names, columns, conversations)
    yield from _rows(name, (batch for table in chain([first], tables) for batch in table.to_batches()), layout)


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns to read from a table, and the format of their cells, or None if the recipe names the columns."""

    names: list[str]
    row_format: RowFormat | None
    conversations: bool = False
    """Whether a row may have any number of turns."""

    def make_row(self, file: str, line: int, cells: Sequence[object]) -> RawRow:
        """Return the row with these cells, in the order of `names`.

        Raises:
            RowError: the cells are not a row of the format, or a cell is not a valid text; see `require_text`.
        """
        if self.row_format is not None:
            fields = dict(zip(self.names, cells, strict=True))
            problem, solution, conversation = self.row_format.read_row(fields, self.conversations)
            return RawRow(file, line, problem, solution, conversation=conversation)
        first, second, *kind = cells
        label = require_text("kind", kind[0]) if kind else None
        return RawRow(file, line, require_text("problem", first), require_text("solution", second), label)


def find_columns(
    file: str, header: Sequence[str], columns: ColumnsSection, conversations: bool = False
) -> TableColumns:
    """Return the columns that the recipe names, or by default those of the first format that the table has.

    A table with the columns problem and solution may have further columns. Tables of other formats may not.

    Raises:
        DataError: a column is missing, occurs more than once, or would be dropped.
    """
    names = [columns.problem, columns.solution, *([columns.kind] if columns.kind is not None else [])]
    row_format = find_format(header) if columns == ColumnsSection() else None
    expected = f" Without data.columns, {EXPECTED_KEYS} are read." if columns == ColumnsSection() else ""
    if row_format is not None and names != list(row_format.required):
        names = [name for name in dict.fromkeys(header) if name in row_format.keys]
        if dropped := [name for name in header if name not in names]:
            raise DataError(
                f"{file}: columns would be dropped: {list_names(dropped)}; {dropped_keys_advice(row_format)}"
            )
    for fault, faulty_names in (
        ("lacks", [name for name in names if name not in header]),
        ("has more than once", [name for name in names if header.count(name) > 1]),
    ):
        if faulty_names:
            raise DataError(
                f"{file}: the table {fault} {' and '.join(map(repr, faulty_names))}; its columns are "
                f"{', '.join(map(repr, header))}. Name the columns to read in data.columns.{expected}"
            )
    return TableColumns(names, row_format, conversations)


def _rows(file: str, batches: Iterable[Any], layout: TableColumns) -> Iterator[RawRow | RejectedRow]:
    line = 0
    read_cells = _texts if layout.row_format is None else _values
    for batch in batches:
        for cells in zip(*(read_cells(batch.column(name)) for name in layout.names), strict=True):
            line += 1
            texts = [text for cell in cells for text in _texts_in(cell)]
            try:
                if not all(map(is_utf8, texts)):
                    raise RowError(NOT_UTF8)
                if sum(len(text.encode()) for text in texts) > MAX_ROW_BYTES:
                    raise RowError(TOO_LONG)
                yield layout.make_row(file, line, cells)
            except RowError as error:
                yield reject(file, line, str(error), "\n".join(texts))
    if line == 0:
        raise _empty_table_error(file)


def _texts(column: Any) -> list[str | None]:
    """Return the texts of a column, and None for values of another type.

    Bytes that are not UTF-8 become lone surrogates.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type not in _TEXT_TYPES:
        return [None] * len(column)
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        texts = [None if cell is None else cell.decode(errors="surrogateescape") for cell in raw]
    return texts


def _values(column: Any) -> Sequence[object]:
    """Return the values of a column of any type, in the types of `row_formats`."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return _texts(column) if column.type in _TEXT_TYPES else [_value(cell) for cell in column]


def _value(cell: Any) -> object:
    """Return one value. If a text in it is not UTF-8, return a lone surrogate, so that the row is rejected."""
    try:
        return from_python(cell.as_py())
    except UnicodeDecodeError:
        return "\udcff"


def _texts_in(value: object) -> Iterator[str]:
    """Yield all texts in a cell, without the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, tuple):
        for _, item in value:
            yield from _texts_in(item)


def _empty_table_error(file: str) -> DataError:
    return DataError(f"{file}: the table is empty; provide a table with rows")
