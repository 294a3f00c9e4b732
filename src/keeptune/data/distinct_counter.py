"""How many different problems there are, counted exactly without holding them.

Every understood row leaves 26 bytes: the rank of its problem, eight bytes of a hash of its solution, and its kind.
They are written to files by the rank's first bits, so that all rows of a problem meet in one file, and each file is
small enough to be counted in memory. Several passes write beside each other into one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTITIONS = 16
"""Files that the ranks are spread over: a power of two, at most 256."""

FLUSH_ROWS = 100_000
"""So many rows are held before they are written."""

_RECORD = np.dtype([("high", ">u8"), ("low", ">u8"), ("solution", "<u8"), ("kind", "<u2")])


@dataclass(frozen=True, slots=True)
class Unique:
    """The number of different problems of each kind, and of problems that came with several different solutions."""

    problems: Counter[str]
    conflicts: int


class Tally:
    """The records of one pass. `name` must differ between passes that write into one folder."""

    def __init__(self, folder: Path, name: str, kinds: Sequence[str]) -> None:
        self.folder, self.name = folder, name
        self.numbers = {kind: number.to_bytes(2, "little") for number, kind in enumerate(kinds)}
        self.held = bytearray()

    def add(self, kind: str, rank: bytes, solution: bytes) -> None:
        """Notes a row: its kind, the rank of its problem (16 bytes), and a hash of its solution (8 bytes)."""
        self.held += rank + solution + self.numbers[kind]
        if len(self.held) >= FLUSH_ROWS * _RECORD.itemsize:
            self.flush()

    def flush(self) -> None:
        """Writes what is held. It must be called at the end of the pass."""
        records = np.frombuffer(bytes(self.held), _RECORD)
        partition = records["high"] // np.uint64(2**64 // PARTITIONS)
        for number in range(PARTITIONS):
            part = records[partition == number]
            if len(part):
                with (self.folder / f"tally-{number:02}-{self.name}").open("ab") as file:
                    file.write(part.tobytes())
        self.held.clear()


def unique(folder: Path, kinds: Sequence[str]) -> Unique:
    """The counts over all passes that wrote into `folder`."""
    problems: Counter[str] = Counter()
    conflicts = 0
    for number in range(PARTITIONS):
        parts = [np.fromfile(path, _RECORD) for path in sorted(folder.glob(f"tally-{number:02}-*"))]
        if not parts:
            continue
        records = np.concatenate(parts)
        order = np.lexsort((records["solution"], records["kind"], records["low"], records["high"]))
        records = records[order]
        new_problem = _changes(records["high"], records["low"], records["kind"])
        new_row = new_problem | _changes(records["solution"])
        for kind, count in zip(*np.unique(records["kind"][new_problem], return_counts=True), strict=True):
            problems[kinds[kind]] += int(count)
        solutions = np.add.reduceat(new_row.astype(np.int64), np.flatnonzero(new_problem))
        conflicts += int((solutions > 1).sum())
    return Unique(problems, conflicts)


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Whether each record differs from the one before it in any of the columns. shape: (records,)."""
    changed = np.ones(len(columns[0]), dtype=bool)
    changed[1:] = False
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed
