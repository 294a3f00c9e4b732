"""Reads rows from tables: Parquet files and Hugging Face data sets.

The recipe names the columns. By default they are those of the first format of `row_formats` that the table has. A
column that is not used must be in data.ignore_columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.data import hub
from keeptune.data.columns import FORMAT_KEYS, PLAIN_PAIRS, RowLayout, RowReader, dropped_columns_advice
from keeptune.data.row import (
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    RawRow,
    RejectedRow,
    RowError,
    is_plain_text,
    is_utf8,
    reject,
)
from keeptune.data.row_values import from_python, list_names
from keeptune.data.stream import CODECS, open_bytes
from keeptune.errors import DataError

_BATCH_ROWS = 64
"""Few, because a dictionary can repeat one long text: a file of 4 kB can have hundreds of cells of 100 MB."""
_BATCH_BYTES = 256 << 20
"""The longest texts that a batch may have together, by the sizes that the file states."""
_BUFFER_BYTES = 1 << 20
_TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())


def read_parquet(path: Path, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a Parquet file. The line of a row is its number, counted from 1.

    Raises:
        DataError: the file is missing, unreadable, damaged, compressed or empty, or lacks the columns.
    """
    if path.suffix.lower() in CODECS:
        raise DataError(f"{path}: cannot read a compressed Parquet file (Parquet compresses its columns); unpack it")
    with open_bytes(path) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
            columns = find_columns(str(path), file.schema_arrow.names, layout)
            yield from _rows(str(path), read_batches(file, _BATCH_ROWS, columns.names), columns)
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names that are not UTF-8
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({error}); write the file again") from None


def read_batches(file: pq.ParquetFile, rows: int, names: Sequence[str]) -> Iterator[Any]:
    """Yield the record batches of a Parquet file with at most so many rows, and fewer where a cell may be long.

    No cell is longer than its row group, and a dictionary can repeat it in every row. The sizes of single columns would
    be closer, but Arrow ends the process when it reads them in a damaged file.
    """
    groups = map(file.metadata.row_group, range(file.num_row_groups))
    largest_bytes = max((group.total_byte_size for group in groups), default=0)
    batch_rows = max(1, min(rows, _BATCH_BYTES // max(1, largest_bytes)))
    yield from file.iter_batches(batch_rows, columns=list(names), use_threads=False)


def read_hub(name: str, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the data set hf:NAME#SPLIT. The line of a row is its number, counted from 1.

    Raises:
        RecipeError: the library `datasets` is not installed.
        DataError: the data set cannot be loaded, is empty, or lacks the columns.
    """
    tables = hub.load_tables(name)
    first = next(tables, None)
    if first is None:
        raise _empty_table_error(name)
    columns = find_columns(name, first.schema.names, layout)
    yield from _rows(name, (batch for table in chain([first], tables) for batch in table.to_batches()), columns)


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns to read from a table, and how their cells become a row."""

    names: list[str]
    read: Callable[[str, int, Mapping[str, object]], RawRow]
    """Return the row with these fields, or raise `RowError`."""
    pair: tuple[int, int] | None
    """The positions of problem and solution in `names`, if two texts can be used as they are."""

    def make_row(self, file: str, line: int, cells: Sequence[object]) -> RawRow:
        """Return the row with these cells, in the order of `names`.

        Raises:
            RowError: the cells are not a row of the format, or a cell is not a valid text; see `require_text`.
        """
        if self.pair is not None:
            problem, solution = cells[self.pair[0]], cells[self.pair[1]]
            if is_plain_text(problem) and is_plain_text(solution):
                return RawRow(file, line, problem, solution)
        return self.read(file, line, dict(zip(self.names, cells, strict=True)))


def find_columns(file: str, header: Sequence[str], layout: RowLayout) -> TableColumns:
    """Return the columns that the recipe names, or by default those of the first format that the table has.

    Raises:
        DataError: a column is missing, occurs more than once, or would be dropped.
    """
    row_format, reader = layout.find_format(header), RowReader(layout)
    if row_format is not None:
        used = {name for name in header if name in row_format.keys}
    else:
        used = reader.used(header) if layout.format is None else set(FORMAT_KEYS[layout.format])
    names = [name for name in dict.fromkeys(header) if name in used]
    for fault, faulty_names in (
        ("lacks", sorted(used - set(names))),
        ("has more than once", [name for name in names if header.count(name) > 1]),
    ):
        if faulty_names:
            known = f" Without data.columns, {layout.expected_keys} are read." if layout.has_known_format else ""
            raise DataError(
                f"{file}: the table {fault} {' and '.join(map(repr, faulty_names))}; its columns are "
                f"{list_names(header)}. Name the columns to read in data.columns.{known}"
            )
    if dropped := [name for name in header if name not in used and not layout.is_ignored(name)]:
        raise DataError(
            f"{file}: columns would be dropped: {list_names(dropped)}; {dropped_columns_advice(dropped)}"
            + (f". The format has {list_names(row_format.keys)}" if row_format else "")
        )
    keys = (layout.columns.problem, layout.columns.solution) if row_format is None else row_format.required
    is_pair = reader.is_plain_pair and set(keys) <= set(names) if row_format is None else keys in PLAIN_PAIRS
    pair = (names.index(keys[0]), names.index(keys[1])) if is_pair and len(names) == len(set(keys)) else None
    return TableColumns(names, reader.read_named if row_format is None else reader.read, pair)


class UnrepresentableValue:
    """Stands for a value that Python has no object for. It is no text, so its row is rejected."""


def _rows(file: str, batches: Iterable[Any], columns: TableColumns) -> Iterator[RawRow | RejectedRow]:
    line = 0
    for batch in batches:
        for cells in zip(*(column_values(batch.column(name)) for name in columns.names), strict=True):
            line += 1
            yield _row(file, line, cells, columns)
    if line == 0:
        raise _empty_table_error(file)


def _row(file: str, line: int, cells: Sequence[object], columns: TableColumns) -> RawRow | RejectedRow:
    if columns.pair is not None and all(map(is_plain_text, cells)):
        return columns.make_row(file, line, cells)
    texts = [text for cell in cells for text in _texts_in(cell)]
    try:
        if not all(map(is_utf8, texts)):
            raise RowError(NOT_UTF8)
        if sum(len(text.encode()) for text in texts) > MAX_ROW_BYTES:
            raise RowError(TOO_LONG)
        return columns.make_row(file, line, cells)
    except RowError as error:
        return reject(file, line, str(error), "\n".join(texts))


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


def column_values(column: Any) -> Sequence[object]:
    """Return the values of a column of any type, in the types of `row_formats`."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return _texts(column) if column.type in _TEXT_TYPES else [_value(cell) for cell in column]


def _value(cell: Any) -> object:
    """Return one value. If a text in it is not UTF-8, return a lone surrogate, so that the row is rejected.

    A date or duration may be too large for Python.
    """
    try:
        return from_python(cell.as_py())
    except UnicodeDecodeError:
        return "\udcff"
    except (ValueError, OverflowError):
        return UnrepresentableValue()


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
