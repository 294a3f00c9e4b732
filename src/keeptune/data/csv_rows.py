"""Reads rows from CSV and TSV files, in which a record may span several lines.

If a record cannot be parsed, only its first line is rejected, and the lines after it are parsed again. So a quote that
is never closed does not consume the rest of the file. Each line is parsed at most twice. A record that begins inside an
unterminated record would end at the same line, so it is limited to a single line.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path

from keeptune.data.columns import RowLayout
from keeptune.data.row import MAX_ROW_BYTES, NOT_UTF8, TOO_LONG, RawRow, RejectedRow, RowError, is_utf8, reject
from keeptune.data.stream import LongLine, decode_lines, open_bytes, read_line_blocks
from keeptune.data.table import TableColumns, find_columns
from keeptune.errors import DataError

_DELIMITERS = (",", ";", "\t", "|", "，")
_QUOTED = re.compile(r'"[^"]*"')
_DECLARED = re.compile(r"sep=(.)\s*")

_NumberedLine = tuple[int, str | LongLine]
"""A line number and the line."""


def read_csv(path: Path, layout: RowLayout, delimiter: str = ",") -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a CSV or TSV file with a header. The line of a row is its first line. Blank lines are skipped.

    Raises:
        DataError: the file is missing, unreadable or empty, or its header is malformed or lacks the columns.
    """
    file = str(path)
    with open_bytes(path) as stream:
        records = _open_records(file, stream, delimiter)
        header = _read_header(path, records)
        columns = find_columns(file, header, layout)
        indices = [header.index(name) for name in columns.names]
        is_empty = True
        for record in records:
            is_empty = False
            if isinstance(record, RejectedRow):
                yield record
            else:
                yield _row(file, record, len(header), indices, columns)
        if is_empty:
            raise DataError(f"{path}: the table is empty; provide a table with rows")


@dataclass(frozen=True, slots=True)
class _Record:
    """A parsed CSV record: the number of its first line, its fields and its text."""

    line: int
    fields: list[str]
    text: str


def read_columns(path: Path, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the names of the columns of a CSV file, then the fields of each record that can be parsed.

    Raises:
        DataError: the file is missing, unreadable or empty, or its header is malformed.
    """
    with open_bytes(path) as stream:
        records = _open_records(str(path), stream, delimiter)
        yield _read_header(path, records)
        yield from (record.fields for record in records if isinstance(record, _Record))


def _read_header(path: Path, records: Iterator[_Record | RejectedRow]) -> list[str]:
    header = next(records, None)
    if header is None:
        raise DataError(f"{path}: the file is empty; provide a file with rows")
    if isinstance(header, RejectedRow):
        advice = "the first line must name the columns"
        if "\r" in header.text:
            advice = "its lines end in CR alone, as on old Macs; save the file with the line ends LF or CRLF"
        raise DataError(f"{path}:{header.line}: cannot read the header ({header.reason}); {advice}")
    if not is_utf8(header.text):
        raise DataError(
            f"{path}:{header.line}: the header is not UTF-8; save the file as CSV UTF-8, or convert it, such as with "
            f"iconv -f GB18030 -t UTF-8 (Chinese) or iconv -f WINDOWS-1252 -t UTF-8 (Western Europe)"
        )
    return header.fields


def _open_records(file: str, stream: BufferedReader, delimiter: str) -> Iterator[_Record | RejectedRow]:
    """Yield the header and the records. The delimiter is that of the header, or of Excel's line `sep=;` before it."""
    lines = _number_lines(stream)
    for number, text in lines:
        header = "" if isinstance(text, LongLine) else text
        if declared := _DECLARED.fullmatch(header):
            yield from _parse_records(file, lines, declared[1])
        elif header.strip() or isinstance(text, LongLine):
            yield from _parse_records(file, chain([(number, text)], lines), _find_delimiter(header, delimiter))


def _find_delimiter(header: str, default: str) -> str:
    """Return the delimiter of a header: a comma if it has one, else the most frequent other one.

    Excel writes semicolons where the comma is the decimal sign.
    """
    bare = _QUOTED.sub("", header)
    counts = {mark: bare.count(mark) for mark in _DELIMITERS}
    if default != "," or counts[","] or not any(counts.values()):
        return default
    return max(counts, key=lambda mark: counts[mark])


def _row(file: str, record: _Record, width: int, indices: list[int], columns: TableColumns) -> RawRow | RejectedRow:
    try:
        if not is_utf8(record.text):
            raise RowError(NOT_UTF8)
        if len(record.fields) != width:
            raise RowError(f"wrong number of fields: found {len(record.fields)}, expected {width}")
        return columns.make_row(file, record.line, [record.fields[index] for index in indices])
    except RowError as error:
        return reject(file, record.line, str(error), record.text.rstrip("\r\n"))


def _number_lines(stream: BufferedReader) -> Iterator[_NumberedLine]:
    number = 0
    for block in read_line_blocks(stream):
        for text in [block] if isinstance(block, LongLine) else decode_lines(block)[0]:
            number += 1
            yield number, text


def _parse_records(file: str, lines: Iterator[_NumberedLine], delimiter: str) -> Iterator[_Record | RejectedRow]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    feed = _LineFeed(lines)
    reader = csv.reader(feed, strict=True, delimiter=delimiter)
    while (next_line := feed.begin_record()) is not None:
        number, text = next_line
        if isinstance(text, LongLine):
            feed.skip_line()
            yield text.reject(file, number)
            continue
        try:
            fields = next(reader)
        except csv.Error:
            yield reject(file, number, TOO_LONG if feed.is_too_long else "malformed CSV", text.rstrip("\r"))
            feed.rewind_record()
            continue
        if text.strip() or len(feed.record_lines) > 1:
            yield _Record(number, fields, "\n".join(feed.record_lines))


class _LineFeed:
    """Feeds lines to csv.reader. After a parsing error, it takes back all lines of the record except the first."""

    def __init__(self, lines: Iterator[_NumberedLine]) -> None:
        self.record_lines: list[str] = []
        """The lines of the current record."""
        self.is_too_long = False
        """Whether the current record was ended because it is longer than 1 MB."""
        self._lines = lines
        self._pending: deque[_NumberedLine] = deque()
        self._first_line = 0
        self._size_bytes = 0
        self._is_cut = False
        self._single_line_before = 0
        """A record that begins before this line may not span several lines, because it would not terminate."""

    def begin_record(self) -> _NumberedLine | None:
        """Start the next record and return its first line, or None at the end of the file."""
        self.record_lines = []
        self.is_too_long = self._is_cut = False
        self._size_bytes = 0
        line = self._peek()
        self._first_line = line[0] if line else 0
        return line

    def skip_line(self) -> None:
        """Drop the next line."""
        self._pending.popleft()

    def rewind_record(self) -> None:
        """Put all lines of the current record except the first back, so that they are parsed again."""
        end = self._first_line + len(self.record_lines)
        self._single_line_before = max(self._single_line_before, end if self._is_cut else end - 1)
        self._pending.extendleft(reversed(list(enumerate(self.record_lines[1:], self._first_line + 1))))

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        line = self._peek()
        is_limited = self.record_lines and self._first_line < self._single_line_before
        if line is None or isinstance(line[1], LongLine) or is_limited:
            self._is_cut = True
            raise StopIteration
        text = line[1]
        self._size_bytes += len(text.encode(errors="surrogateescape")) + 1
        if self.record_lines and self._size_bytes > MAX_ROW_BYTES:
            self.is_too_long = self._is_cut = True
            raise StopIteration
        self._pending.popleft()
        self.record_lines.append(text)
        return text + "\n"

    def _peek(self) -> _NumberedLine | None:
        """Return the next line without consuming it."""
        if not self._pending and (line := next(self._lines, None)) is not None:
            self._pending.append(line)
        return self._pending[0] if self._pending else None
