"""Writes rows of token ids as a MindRecord data set, with a list of the rows that were skipped and why.

MindFormers' preprocessing scripts truncate long rows without a message. Here each skipped row is counted and listed.
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
_VALUES_PER_BATCH = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """A row before padding; `name` says where it came from."""

    name: str
    input_ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that is not in the data set: its name, why it was skipped, and its length in tokens."""

    row: str
    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What all rows of a data set share: their length in tokens, the padding of each field, and the schema's name."""

    length: int
    padding: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """What was written: the files, their number of rows, and the rows that were skipped."""

    files: list[str]
    rows: int
    skipped: list[SkippedRow]

    def text(self) -> str:
        """The counts as text."""
        if not self.skipped:
            return f"{self.rows:,} rows, none skipped"
        reasons = Counter(row.reason for row in self.skipped)
        first = {row.reason: row for row in reversed(self.skipped)}
        lines = [f"{self.rows:,} rows; {len(self.skipped):,} skipped, listed in left_out.jsonl:"]
        for reason, count in reasons.most_common():
            lines.append(f"  {count:,} × {reason}; the first is {first[reason].row} ({first[reason].tokens:,} tokens)")
        return "\n".join(lines)


def write_set(
    out: Path, name: str, rows: Sequence[Row | SkippedRow], layout: Layout, about: Mapping[str, Any], shards: int
) -> WrittenSet:
    """Writes the rows as `name`.mindrecord, `about` with the counts, and the skipped rows into the new folder `out`.

    Raises:
        DataError: when every row is skipped.
        RunError: when `out` exists or cannot be written.
    """
    written = [row for row in rows if isinstance(row, Row)]
    skipped = [row for row in rows if isinstance(row, SkippedRow)]
    if not written:
        reasons = "; ".join(sorted({row.reason for row in skipped}))
        raise DataError(
            f"{out}: none of {len(skipped):,} rows can be written ({reasons}); raise --seq-length, or give the "
            "tokenizer a padding token that does not occur in the rows"
        )
    counts = {"rows": len(written), "left_out": Counter(row.reason for row in skipped)}
    with new_folder(out) as scratch:
        record.write(scratch / f"{name}.mindrecord", FIELDS, batches(written, layout), layout.kind, shards)
        write_records(scratch / "left_out.jsonl", [asdict(row) for row in skipped])
        write_json(scratch / "about.json", {**about, **counts})
    return WrittenSet(sorted(path.name for path in out.iterdir()), len(written), skipped)


def batches(rows: Sequence[Row], layout: Layout) -> Iterator[Integers]:
    """Yields the padded rows as arrays of shape (rows, fields, values), about 4 MiB each."""
    size = max(1, _VALUES_PER_BATCH // (len(FIELDS) * layout.length))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        batch = np.empty((len(chunk), len(FIELDS), layout.length), np.int32)
        batch[:] = np.array(layout.padding)[:, None]
        for array, row in zip(batch, chunk, strict=True):
            array[0, : len(row.input_ids)] = row.input_ids
            array[1, : len(row.labels)] = row.labels
        yield batch
