"""The first rows of a file as they are stored, and the format that they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.data import hub
from keeptune.data.columns import RowLayout
from keeptune.data.csv_rows import read_columns
from keeptune.data.json_document import DECODER, ItemError, ValueReader, list_items
from keeptune.data.json_rows import open_container
from keeptune.data.sources import file_format
from keeptune.data.stream import LongLine, decode_lines, open_bytes, read_line_blocks
from keeptune.data.table import column_values, read_batches
from keeptune.errors import DataError

SAMPLE_ROWS = 20
"""The number of rows from which the format of a file is detected."""

Fields = Mapping[str, object]
"""The keys of a row with their values, in the types of `row_formats`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a file that can be parsed, and what holds them, such as `JSON Lines`."""

    container: str
    rows: list[Fields]


def sample_rows(name: str, layout: RowLayout, count: int = SAMPLE_ROWS) -> Sample:
    """Return at most `count` rows from the start of a file or data set. Rows that cannot be parsed are skipped.

    Raises:
        DataError: the file cannot be read, or is empty.
        RecipeError: the name is a Hugging Face data set and the library `datasets` is not installed.
    """
    if hub.is_hub_name(name):
        batches = (batch for table in hub.load_tables(name) for batch in table.to_batches())
        return Sample("Hugging Face data set", list(islice(_batch_rows(batches), count)))
    path = Path(name)
    match file_format(path):
        case "csv":
            return Sample("CSV", list(islice(_table_rows(path, ","), count)))
        case "tsv":
            return Sample("TSV", list(islice(_table_rows(path, "\t"), count)))
        case "parquet":
            return Sample("Parquet", list(islice(_parquet_rows(path), count)))
        case "json":
            container = open_container(path, layout)
            values = _line_values(path) if container.text is None else _list_values(container.text, container.start)
            rows = (dict(value) for value in values if isinstance(value, tuple))
            return Sample(container.name, list(islice(rows, count)))


def detect_format(name: str, layout: RowLayout) -> str:
    """Return the container and the row formats of a file's first rows, such as `JSON Lines, messages`."""
    sample = sample_rows(name, layout)
    formats = dict.fromkeys(layout.describe_format(row.keys()) or "unknown keys" for row in sample.rows)
    return f"{sample.container}, {' and '.join(formats) or 'no rows'}"


def detect_formats(files: Sequence[str], layout: RowLayout) -> dict[str, str]:
    """Return the format of each file by its name."""
    return {file: detect_format(file, layout) for file in files}


def _table_rows(path: Path, delimiter: str) -> Iterator[Fields]:
    header: list[str] = []
    for fields in read_columns(path, delimiter):
        if header:
            yield dict(zip(header, fields, strict=False))
        header = header or fields


def _parquet_rows(path: Path) -> Iterator[Fields]:
    with open_bytes(path) as stream:
        try:
            file = pq.ParquetFile(stream)
            yield from _batch_rows(read_batches(file, SAMPLE_ROWS, file.schema_arrow.names))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({error}); write the file again") from None


def _batch_rows(batches: Iterator[Any]) -> Iterator[Fields]:
    for batch in batches:
        names = batch.schema.names
        for cells in zip(*(column_values(batch.column(index)) for index in range(len(names))), strict=True):
            yield dict(zip(names, cells, strict=True))


def _line_values(path: Path) -> Iterator[object]:
    with open_bytes(path) as stream:
        for block in read_line_blocks(stream):
            for line in [] if isinstance(block, LongLine) else decode_lines(block)[0]:
                try:
                    yield DECODER.decode(line)
                except (ValueError, RecursionError):
                    continue


def _list_values(text: str, start: int) -> Iterator[object]:
    with suppress(ItemError):
        yield from (item.value for item in list_items(ValueReader(text), start))
