"""Rows out of CSV, where a row may have many lines, and a quote that is never closed would take all that follow along.

A record that cannot be read costs the line it begins on; the lines after it are read anew. That takes no more than
one more reading: where a record ran on in vain, the ones that begin inside it are not let run on, since they would
end at the same place.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from keeptune.config.data import ColumnsSection
from keeptune.data.row import LONGEST_ROW_BYTES, NOT_UTF8, TOO_LONG, BadRow, Rejected, Row, is_utf8, reject
from keeptune.data.stream import LongLine, decoded, line_blocks, opened
from keeptune.data.table import required, text_row
from keeptune.errors import DataError

_Line = tuple[int, str | LongLine]
"""A line and its number."""


def read_csv(path: Path, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """Every row of a CSV file with a header; its line is the one it begins on. Blank lines are no rows.

    errors: DataError when the file is missing, unreadable or empty, or its header cannot be read or lacks the columns.
    """
    file = str(path)
    with opened(path) as stream:
        records = _records(file, _lines(stream))
        header = next(records, None)
        if header is None:
            raise DataError(f"{path}: the file is empty; give one with rows")
        if isinstance(header, Rejected):
            raise DataError(f"{path}:{header.line}: the header is {header.reason}; the first line names the columns")
        places = [header.fields.index(name) for name in required(file, header.fields, columns)]
        is_empty = True
        for record in records:
            is_empty = False
            yield record if isinstance(record, Rejected) else _row(file, record, len(header.fields), places)
        if is_empty:
            raise DataError(f"{path}: the table is empty; give one with rows")


@dataclass(frozen=True, slots=True)
class _Record:
    """What csv.reader made of some lines, the first of them, and their text."""

    line: int
    fields: list[str]
    text: str


def _row(file: str, record: _Record, width: int, places: list[int]) -> Row | Rejected:
    try:
        if not is_utf8(record.text):
            raise BadRow(NOT_UTF8)
        if len(record.fields) != width:
            raise BadRow("wrong number of fields")
        return text_row(file, record.line, [record.fields[place] for place in places])
    except BadRow as bad:
        return reject(file, record.line, str(bad), record.text.rstrip("\r\n"))


def _lines(stream: BufferedReader) -> Iterator[_Line]:
    number = 0
    for block in line_blocks(stream):
        for text in [block] if isinstance(block, LongLine) else decoded(block)[0]:
            number += 1
            yield number, text


def _records(file: str, lines: Iterator[_Line]) -> Iterator[_Record | Rejected]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW_BYTES))
    feed = _Feed(lines)
    reader = csv.reader(feed, strict=True)
    while (ahead := feed.begin()) is not None:
        number, text = ahead
        if isinstance(text, LongLine):
            feed.skip()
            yield text.reject(file, number)
            continue
        try:
            fields = next(reader)
        except csv.Error:
            yield reject(file, number, TOO_LONG if feed.is_too_long else "malformed CSV", text.rstrip("\r"))
            feed.give_back()
            continue
        if text.strip() or len(feed.taken) > 1:
            yield _Record(number, fields, "\n".join(feed.taken))


class _Feed:
    """Hands lines to csv.reader, and takes back those of a record that it could not read, but for the first."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self.taken: list[str] = []
        """The lines of the record at hand."""
        self.is_too_long = False
        """Whether the record at hand was ended because it is longer than 1 MB."""
        self._lines = lines
        self._ahead: deque[_Line] = deque()
        self._begun = 0
        self._size_bytes = 0
        self._is_ended = False
        self._single_before = 0
        """Records that begin before this line, and do not end on theirs, run on in vain."""

    def begin(self) -> _Line | None:
        """The line that the next record begins on, or None after the last."""
        self.taken = []
        self.is_too_long = self._is_ended = False
        self._size_bytes = 0
        line = self._look()
        self._begun = line[0] if line else 0
        return line

    def skip(self) -> None:
        """Leaves out the line ahead."""
        self._ahead.popleft()

    def give_back(self) -> None:
        """Puts the lines of the record back, to be read anew, but for the first."""
        end = self._begun + len(self.taken)
        self._single_before = max(self._single_before, end if self._is_ended else end - 1)
        self._ahead.extendleft(reversed(list(enumerate(self.taken[1:], self._begun + 1))))

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        ahead = self._look()
        if ahead is None or isinstance(ahead[1], LongLine) or (self.taken and self._begun < self._single_before):
            self._is_ended = True
            raise StopIteration
        text = ahead[1]
        self._size_bytes += len(text.encode(errors="surrogateescape")) + 1
        if self.taken and self._size_bytes > LONGEST_ROW_BYTES:
            self.is_too_long = self._is_ended = True
            raise StopIteration
        self._ahead.popleft()
        self.taken.append(text)
        return text + "\n"

    def _look(self) -> _Line | None:
        """The line ahead."""
        if not self._ahead and (line := next(self._lines, None)) is not None:
            self._ahead.append(line)
        return self._ahead[0] if self._ahead else None
