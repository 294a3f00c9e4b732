"""Reads rows from tables: Parquet files and Hugging Face data sets. The recipe names the columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from keeptune.data.stream import CODECS, open_bytes
from keeptune.errors import DataError

_BATCH_ROWS = 1_000
_BUFFER_BYTES = 1 << 20


def read_parquet(path: Path, columns: ColumnsSection) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a Parquet file. The line of a row is its number, counted from 1.

    Raises:
        DataError: the file is missing, unreadable, damaged, compressed or empty, or lacks the columns.
    """
    if path.suffix.lower() in CODECS:
        raise DataError(f"{path}: cannot read a compressed Parquet file (Parquet compresses its columns); unpack it")
    with open_bytes(path) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
            names = required_columns(str(path), file.schema_arrow.names, columns)
            yield from _rows(str(path), file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False), names)
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: column names that are not UTF-8
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({error}); write the file again") from None


def read_hub(name: str, columns: ColumnsSection) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the data set hf:NAME#SPLIT. The line of a row is its number, counted from 1.

    Raises:
        RecipeError: the library `datasets` is not installed.
        DataError: the data set cannot be loaded, is empty, or lacks the columns.
    """
    tables = hub.load_tables(name)
    first = next(tables, None)
    if first is None:
        raise _empty_table_error(name)
    names = required_columns(name, first.schema.names, columns)
    yield from _rows(name, (batch for table in chain([first], tables) for batch in table.to_batches()), names)


def required_columns(file: str, header: Sequence[str], columns: ColumnsSection) -> list[str]:
    """Return the names of the columns for problem, solution and, if the recipe names it, kind.

    Raises:
        DataError: a column is missing or occurs more than once.
    """
    names = [columns.problem, columns.solution, *([columns.kind] if columns.kind is not None else [])]
    for fault, faulty_names in (
        ("lacks", [name for name in names if name not in header]),
        ("has more than once", [name for name in names if header.count(name) > 1]),
    ):
        if faulty_names:
            raise DataError(
                f"{file}: the table {fault} {' and '.join(map(repr, faulty_names))}; its columns are "
                f"{', '.join(map(repr, header))}. Name the columns to read in data.columns"
            )
    return names


def make_row(file: str, line: int, cells: Sequence[object]) -> RawRow:
    """Return the row with these cells, in the order of `required_columns`.

    Raises:
        RowError: a cell is not a valid text; see `require_text`.
    """
    problem, solution, *kind = cells
    label = require_text("kind", kind[0]) if kind else None
    return RawRow(file, line, require_text("problem", problem), require_text("solution", solution), label)


def _rows(file: str, batches: Iterable[Any], names: Sequence[str]) -> Iterator[RawRow | RejectedRow]:
    line = 0
    for batch in batches:
        for cells in zip(*(_cells(batch.column(name)) for name in names), strict=True):
            line += 1
            texts = [cell for cell in cells if isinstance(cell, str)]
            try:
                if not all(map(is_utf8, texts)):
                    raise RowError(NOT_UTF8)
                if sum(len(text.encode()) for text in texts) > MAX_ROW_BYTES:
                    raise RowError(TOO_LONG)
                yield make_row(file, line, cells)
            except RowError as error:
                yield reject(file, line, str(error), "\n".join(texts))
    if line == 0:
        raise _empty_table_error(file)


def _cells(column: Any) -> list[str | None]:
    """Return the texts of a column, and None for values of another type.

    Bytes that are not UTF-8 become lone surrogates.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type not in (pa.string(), pa.large_string(), pa.string_view()):
        return [None] * len(column)
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        texts = [None if cell is None else cell.decode(errors="surrogateescape") for cell in raw]
    return texts


def _empty_table_error(file: str) -> DataError:
    return DataError(f"{file}: the table is empty; provide a table with rows")
