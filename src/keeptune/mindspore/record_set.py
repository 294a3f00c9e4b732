"""Rows of token ids as a MindRecord data set in a folder, beside an account of what is in it and what is not.

Scripts that make such files cut what is too long and say nothing. Here every row that is left out is counted and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keeptune.errors import DataError
from keeptune.files import new_folder, write_json, write_records
from keeptune.mindspore import record
from keeptune.mindspore.integers import Integers

FIELDS = ("input_ids", "labels")
_VALUES_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """A row before it is filled up, and where it came from."""

    name: str
    input_ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not in the data set: where it came from, why it was left out, and its length in tokens."""

    row: str
    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What all rows of a data set share: their length, what fills each field up, and what the schema says it is of."""

    length: int
    fill: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the files, how many rows are in them, and the rows that are not."""

    files: list[str]
    rows: int
    left_out: list[LeftOut]

    def text(self) -> str:
        """The counts for people to read."""
        if not self.left_out:
            return f"{self.rows:,} rows, none left out"
        reasons = Counter(row.reason for row in self.left_out)
        first = {row.reason: row for row in reversed(self.left_out)}
        lines = [f"{self.rows:,} rows; {len(self.left_out):,} left out, each named in left_out.jsonl:"]
        for reason, count in reasons.most_common():
            lines.append(f"  {count:,} × {reason}; the first is {first[reason].row} ({first[reason].tokens:,} tokens)")
        return "\n".join(lines)


def write_set(
    out: Path, name: str, rows: Sequence[Row | LeftOut], layout: Layout, about: Mapping[str, Any], shards: int
) -> Written:
    """A folder `out`, which must not exist, with the rows as `name`.mindrecord, and `about` and the counts beside them.

    errors: DataError when no row is left; RunError when `out` cannot be written.
    """
    kept = [row for row in rows if isinstance(row, Row)]
    left_out = [row for row in rows if isinstance(row, LeftOut)]
    if not kept:
        reasons = "; ".join(sorted({row.reason for row in left_out}))
        raise DataError(
            f"{out}: none of {len(left_out):,} rows can be written ({reasons}); raise --seq-length, or give the "
            "tokenizer a padding token that no text holds"
        )
    counts = {"rows": len(kept), "left_out": Counter(row.reason for row in left_out)}
    with new_folder(out) as scratch:
        record.write(scratch / f"{name}.mindrecord", FIELDS, batches(kept, layout), layout.kind, shards)
        write_records(scratch / "left_out.jsonl", [asdict(row) for row in left_out])
        write_json(scratch / "about.json", {**about, **counts})
    return Written(sorted(path.name for path in out.iterdir()), len(kept), left_out)


def batches(rows: Sequence[Row], layout: Layout) -> Iterator[Integers]:
    """The rows as arrays of (rows, fields, values), of about 4 MiB each."""
    size = max(1, _VALUES_AT_ONCE // (len(FIELDS) * layout.length))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        batch = np.empty((len(some), len(FIELDS), layout.length), np.int32)
        batch[:] = np.array(layout.fill)[:, None]
        for array, row in zip(batch, some, strict=True):
            array[0, : len(row.input_ids)] = row.input_ids
            array[1, : len(row.labels)] = row.labels
        yield batch
