"""Raw rows out of files: each is kept, or rejected with its place and the reason; none disappears.

What a file holds is told by its name where it says CSV or Parquet, and otherwise by its content, which is JSON. Nothing
in a file can crash a reader; of all but a JSON list, none holds more than a block and one long row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keeptune.config.data import ColumnsSection
from keeptune.data import hub
from keeptune.data.csv_rows import read_csv
from keeptune.data.json_rows import read_json, read_lines
from keeptune.data.row import Rejected, Row, reject
from keeptune.data.sources import Shard, form
from keeptune.data.table import read_hub, read_parquet

__all__ = ["Rejected", "Row", "read_rows", "read_shard", "reject"]


def read_shard(shard: Shard, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """Every row of a shard in its order, kept or rejected, with its line in the whole file. Blank lines are no rows.

    By default an object has the keys problem and solution and no others. Where the recipe names others in
    data.columns, those must be there; more are allowed, as in CSV and Parquet always.

    errors: DataError when the file is missing, unreadable, damaged or empty, is a table without the columns, or is a
    JSON list that does not parse; RecipeError for a Hugging Face data set where its library is not installed.
    """
    if hub.is_named(shard.file):
        return read_hub(shard.file, columns)
    if shard.end is not None:
        return read_lines(shard, columns)
    path = Path(shard.file)
    match form(path):
        case "csv":
            return read_csv(path, columns)
        case "parquet":
            return read_parquet(path, columns)
        case "json":
            return read_json(path, columns)


def read_rows(path: Path) -> Iterator[Row | Rejected]:
    """Every row of one whole file, its columns named as usual. errors: as of read_shard."""
    return read_shard(Shard(str(path)), ColumnsSection())
