"""Which slots of one cache the rows of several models fill.

A forward pass reads neighboring slots in place, and it computes one model. So the rows of each model are neighbors, and
the models follow each other: [base, base, tuned, tuned, tuned, free, …]. Where a row comes or leaves, at most one row
per later model and new row moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

Row = TypeVar("Row")


class Move(NamedTuple, Generic[Row]):
    """A row that moves from slot `source` to the free slot `target`."""

    row: Row
    source: int
    target: int


class SlotLayout(Generic[Row]):
    """The rows of each group, in the order of their slots."""

    def __init__(self, groups: int) -> None:
        self._groups: list[list[Row]] = [[] for _ in range(groups)]

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def rows(self, group: int) -> Sequence[Row]:
        """The rows of a group, from `first_slot` on."""
        return self._groups[group]

    def first_slot(self, group: int) -> int:
        """The slot of a group's first row."""
        return sum(map(len, self._groups[:group]))

    def open(self, group: int, count: int) -> Iterator[Move[Row]]:
        """Frees `count` slots behind the rows of a group. The moves have to be carried out in order.

        `append` then fills the slots.
        """
        for later in range(len(self._groups) - 1, group, -1):
            rows, start = self._groups[later], self.first_slot(later)
            moved = min(len(rows), count)
            for place in range(moved):
                yield Move(rows[place], start + place, start + max(len(rows), count) + place)
            self._groups[later] = rows[moved:] + rows[:moved]

    def append(self, group: int, rows: Sequence[Row]) -> None:
        """Adds rows that fill the slots that `open` has freed, in this order."""
        self._groups[group] += rows

    def remove(self, group: int, row: Row) -> Iterator[Move[Row]]:
        """Removes a row. The moves that close its slot have to be carried out in order."""
        rows, start = self._groups[group], self.first_slot(group)
        place = next(place for place, other in enumerate(rows) if other is row)
        hole = start + len(rows) - 1
        last = rows.pop()
        if place < len(rows):
            rows[place] = last
            yield Move(last, hole, start + place)
        for later in range(group + 1, len(self._groups)):
            if others := self._groups[later]:
                source = hole + len(others)
                yield Move(others[-1], source, hole)
                self._groups[later] = [others[-1], *others[:-1]]
                hole = source
