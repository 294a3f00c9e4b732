"""Reads raw rows from files. Every row is either returned or rejected with its place and the reason.

The file name selects CSV, TSV or Parquet; every other file is read as JSON. Invalid content never crashes a reader.
Except for a JSON list, a reader holds at most one block and one long row in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keeptune.data import hub
from keeptune.data.columns import RowLayout
from keeptune.data.csv_rows import read_csv
from keeptune.data.json_rows import read_json, read_json_lines
from keeptune.data.row import RawRow, RejectedRow, reject
from keeptune.data.sources import Shard, file_format
from keeptune.data.table import read_hub, read_parquet

__all__ = ["RawRow", "RejectedRow", "read_rows", "read_shard", "reject"]


def read_shard(shard: Shard, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a shard in order, with its line number in the whole file. Blank lines are skipped.

    By default, the keys of a JSON object or the columns of a table determine its format; see `row_formats`. If the
    recipe names keys in data.columns, those must be present. Further keys must be in data.ignore_columns.

    If the layout allows conversations, a row may have any number of turns, a system text and tools. Otherwise such rows
    are rejected, because a prompt template renders a single turn.

    Raises:
        DataError: the file is missing, unreadable, damaged or empty, lacks the columns, or is a JSON list that does
            not parse.
        RecipeError: the shard is a Hugging Face data set and the library `datasets` is not installed.
    """
    if hub.is_hub_name(shard.file):
        return read_hub(shard.file, layout)
    if shard.end is not None:
        return read_json_lines(shard, layout)
    path = Path(shard.file)
    match file_format(path):
        case "csv":
            return read_csv(path, layout)
        case "tsv":
            return read_csv(path, layout, delimiter="\t")
        case "parquet":
            return read_parquet(path, layout)
        case "json":
            return read_json(path, layout)


def read_rows(path: Path, conversations: bool = False) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of one whole file with the default layout. Raises the errors of `read_shard`."""
    return read_shard(Shard(str(path)), RowLayout(conversations=conversations))
