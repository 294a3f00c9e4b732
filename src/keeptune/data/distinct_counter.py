"""Counts distinct problems exactly with bounded memory.

Each accepted row is stored in 34 bytes: the rank of its problem, eight bytes each of a hash of its solution and of its
answer, and its kind.
The records are partitioned into files by the first bits of the rank. So all rows of a problem are in one partition, and
each partition is small enough to be counted in memory. Several passes can write into one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTITIONS = 16
"""The number of files over which the ranks are partitioned: a power of two, at most 256."""

FLUSH_ROWS = 100_000
"""Records are written to disk in groups of this size."""

NO_ANSWER = bytes(8)
"""Stands for the hash of an answer that follows from the problem."""

_RECORD = np.dtype([("high", ">u8"), ("low", ">u8"), ("solution", "<u8"), ("answer", "<u8"), ("kind", "<u2")])


@dataclass(frozen=True, slots=True)
class DistinctCounts:
    """The number of distinct problems per kind, and of problems with several different solutions.

    `ambiguous` has the ranks of the problems with several different answers.
    """

    problems: Counter[str]
    conflicts: int
    ambiguous: frozenset[bytes] = frozenset()


class DistinctCounter:
    """Records the rows of one pass. `name` must be unique among the passes that write into `folder`."""

    def __init__(self, folder: Path, name: str, kinds: Sequence[str]) -> None:
        self.folder, self.name = folder, name
        self.kind_codes = {kind: number.to_bytes(2, "little") for number, kind in enumerate(kinds)}
        self.buffer = bytearray()

    def add(self, kind: str, rank: bytes, solution_hash: bytes, answer_hash: bytes = NO_ANSWER) -> None:
        """Record a row: its kind, the rank of its problem (16 bytes), and hashes of its solution and answer (8 bytes).

        Rows whose answer follows from the problem need no hash of it.
        """
        self.buffer += rank + solution_hash + answer_hash + self.kind_codes[kind]
        if len(self.buffer) >= FLUSH_ROWS * _RECORD.itemsize:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records to disk. Call it at the end of the pass."""
        records = np.frombuffer(bytes(self.buffer), _RECORD)
        partition = records["high"] // np.uint64(2**64 // PARTITIONS)
        for number in range(PARTITIONS):
            part = records[partition == number]
            if len(part):
                with (self.folder / f"distinct-{number:02}-{self.name}").open("ab") as file:
                    file.write(part.tobytes())
        self.buffer.clear()


def count_distinct(folder: Path, kinds: Sequence[str]) -> DistinctCounts:
    """Return the counts over all passes that wrote into `folder`."""
    problems: Counter[str] = Counter()
    conflicts = 0
    ambiguous: set[bytes] = set()
    for number in range(PARTITIONS):
        parts = [np.fromfile(path, _RECORD) for path in sorted(folder.glob(f"distinct-{number:02}-*"))]
        if not parts:
            continue
        records = np.concatenate(parts)
        ambiguous |= _find_ambiguous(records[records["answer"] != 0])
        order = np.lexsort((records["solution"], records["kind"], records["low"], records["high"]))
        records = records[order]
        is_new_problem = _differs_from_previous(records["high"], records["low"], records["kind"])
        is_new_row = is_new_problem | _differs_from_previous(records["solution"])
        for kind, count in zip(*np.unique(records["kind"][is_new_problem], return_counts=True), strict=True):
            problems[kinds[kind]] += int(count)
        solutions = np.add.reduceat(is_new_row.astype(np.int64), np.flatnonzero(is_new_problem))
        conflicts += int((solutions > 1).sum())
    return DistinctCounts(problems, conflicts, frozenset(ambiguous))


def _find_ambiguous(records: np.ndarray) -> set[bytes]:
    """Return the ranks that occur with several answers."""
    if not len(records):
        return set()
    records = records[np.lexsort((records["answer"], records["low"], records["high"]))]
    is_new_problem = _differs_from_previous(records["high"], records["low"])
    is_new_answer = is_new_problem | _differs_from_previous(records["answer"])
    starts = np.flatnonzero(is_new_problem)
    answers = np.add.reduceat(is_new_answer.astype(np.int64), starts)
    found = records[starts[answers > 1]]
    ranks = zip(found["high"].tolist(), found["low"].tolist(), strict=True)
    return {high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in ranks}


def _differs_from_previous(*columns: np.ndarray) -> np.ndarray:
    """Return whether each record differs from the previous one in any of the columns. Shape: (records,)."""
    differs = np.ones(len(columns[0]), dtype=bool)
    differs[1:] = False
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return differs
