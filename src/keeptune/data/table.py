"""Rows out of tables, whose columns the recipe names: Parquet files and Hugging Face data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.config.data import ColumnsSection
from keeptune.data import hub
from keeptune.data.row import LONGEST_ROW_BYTES, NOT_UTF8, TOO_LONG, BadRow, Rejected, Row, checked, is_utf8, reject
from keeptune.data.stream import CODECS, opened
from keeptune.errors import DataError

_BATCH_ROWS = 1_000
_BUFFER_BYTES = 1 << 20


def read_parquet(path: Path, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """Every row of a Parquet file; its line is its number from 1.

    errors: DataError when the file is missing, unreadable, damaged or empty, or lacks the columns.
    """
    if path.suffix.lower() in CODECS:
        raise DataError(f"{path}: Parquet is compressed within and cannot be read out of an archive; unpack it")
    with opened(path) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
            wanted = required(str(path), file.schema_arrow.names, columns)
            yield from _rows(str(path), file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False), wanted)
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are not UTF-8
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({error}); write it anew") from None


def read_hub(name: str, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """Every row of a data set hf:NAME#SPLIT; its line is its number from 1.

    errors: RecipeError when the library is not installed; DataError when the data set cannot be had or is empty, or
    lacks the columns.
    """
    tables = hub.tables(name)
    first = next(tables, None)
    if first is None:
        raise _empty(name)
    wanted = required(name, first.schema.names, columns)
    yield from _rows(name, (batch for table in chain([first], tables) for batch in table.to_batches()), wanted)


def required(file: str, header: Sequence[str], columns: ColumnsSection) -> list[str]:
    """The names of the columns that hold problem, solution and, where it is asked for, kind.

    errors: DataError when the table lacks one, or has it twice.
    """
    wanted = [columns.problem, columns.solution, *([columns.kind] if columns.kind is not None else [])]
    for fault, faulty in (
        ("lacks", [name for name in wanted if name not in header]),
        ("has more than once", [name for name in wanted if header.count(name) > 1]),
    ):
        if faulty:
            raise DataError(
                f"{file}: the table {fault} {' and '.join(map(repr, faulty))}; its columns are "
                f"{', '.join(map(repr, header))}. Name those that hold the texts in data.columns"
            )
    return wanted


def text_row(file: str, line: int, cells: Sequence[object]) -> Row:
    """The row that the cells of the wanted columns make. errors: BadRow with the reason when they make none."""
    problem, solution, *kind = cells
    label = checked("kind", kind[0]) if kind else None
    return Row(file, line, checked("problem", problem), checked("solution", solution), label)


def _rows(file: str, batches: Iterable[Any], wanted: Sequence[str]) -> Iterator[Row | Rejected]:
    line = 0
    for batch in batches:
        for cells in zip(*(_cells(batch.column(name)) for name in wanted), strict=True):
            line += 1
            texts = [cell for cell in cells if isinstance(cell, str)]
            try:
                if not all(map(is_utf8, texts)):
                    raise BadRow(NOT_UTF8)
                if sum(len(text.encode()) for text in texts) > LONGEST_ROW_BYTES:
                    raise BadRow(TOO_LONG)
                yield text_row(file, line, cells)
            except BadRow as bad:
                yield reject(file, line, str(bad), "\n".join(texts))
    if line == 0:
        raise _empty(file)


def _cells(column: Any) -> list[str | None]:
    """The texts of a column, with lone surrogates for bytes that are not UTF-8; None for what is not a text."""
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


def _empty(file: str) -> DataError:
    return DataError(f"{file}: the table is empty; give one with rows")
