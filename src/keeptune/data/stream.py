"""Reads a file as bytes, decompressed if necessary, and splits it into blocks of lines.

A line longer than 1 MB is measured but not kept, so a reader holds at most one block and one line of 1 MB.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import maxsize
from typing import Any

import pyarrow as pa

from keeptune.data.row import MAX_REJECTED_CHARACTERS, MAX_ROW_BYTES, TOO_LONG, RejectedRow
from keeptune.errors import DataError
from keeptune.files import open_regular

BLOCK_BYTES = 1 << 18
"""Bytes per read. It is less than `MAX_ROW_BYTES`, so a line that is too long is always the first of its block."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Arrow's name of the codec, by the suffix of the file name."""

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""The byte order marks of UTF-16, which Excel and Windows write."""

PARQUET_MARK = b"PAR1"

FOREIGN = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip, and its name does not say so; let it end in .gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, and its name does not say so; let it end in .zst",
    PARQUET_MARK: "a Parquet file, and its name does not say so; let it end in .parquet",
    b"ARROW1": "an Arrow file; write it as Parquet, or use hf: and its folder",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"%PDF": "a PDF document; copy its rows into a table or JSON Lines",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV UTF-8",
}
"""What a file is that no reader of text can read, and what to do with it, by its first bytes."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line longer than 1 MB: its first bytes, and its length in bytes including the line end."""

    prefix: bytes
    length: int

    def reject(self, file: str, line: int) -> RejectedRow:
        """Return the record of the rejected line."""
        text = self.prefix.decode(errors="replace")[:MAX_REJECTED_CHARACTERS]
        return RejectedRow(file, line, TOO_LONG, text, self.length)


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading after its byte order mark. Compressed files are decompressed.

    Raises:
        DataError: the file is missing, unreadable or a damaged archive. It can also be raised while reading.
    """
    codec = CODECS.get(path.suffix.lower())
    try:
        with open_regular(path) as file:
            stream: io.BufferedReader = (
                io.BufferedReader(pa.CompressedInputStream(file, codec), BLOCK_BYTES) if codec else file
            )
            start = stream.peek(16)
            if start.startswith(BYTE_ORDER_MARK):
                stream.read(len(BYTE_ORDER_MARK))
            elif start.startswith(UTF16_MARKS):
                stream = io.BufferedReader(_Utf8FromUtf16(stream), BLOCK_BYTES)
            else:
                _require_known(path, start)
            yield stream
    except OSError as error:
        if error.strerror is None:  # raised by Arrow, not by the operating system
            raise DataError(
                f"{path}: cannot be unpacked ({error}); the archive is damaged or truncated, download or pack it again"
            ) from None
        raise unreadable_error(path, error) from None


def _require_known(path: Path, start: bytes) -> None:
    """Raise the error for a file whose first bytes are those of another program."""
    for mark, advice in FOREIGN.items():
        if start.startswith(mark) and not (mark == PARQUET_MARK and path.suffix.lower() == ".parquet"):
            raise DataError(f"{path}: cannot be read as rows: it is {advice}")


class _Utf8FromUtf16(io.RawIOBase):
    """A stream of UTF-16 as UTF-8. What is no valid character becomes invalid UTF-8, so that its row is rejected."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        self._pending = b""
        self._is_finished = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._is_finished:
            chunk = self._stream.read(BLOCK_BYTES)
            self._is_finished = not chunk
            try:
                self._pending = self._decoder.decode(chunk, final=not chunk).encode(errors="surrogatepass")
            except UnicodeDecodeError:  # half a character at the end
                self._pending, self._is_finished = b"\xff", True
        size = min(len(buffer), len(self._pending))
        buffer[:size], self._pending = self._pending[:size], self._pending[size:]
        return size


def unreadable_error(path: Path, error: OSError) -> DataError:
    """Return the error for a file that cannot be read."""
    return DataError(f"{path}: cannot be read ({error.strerror}); check its name and its permissions")


def read_line_blocks(stream: io.BufferedReader, size_bytes: int = maxsize) -> Iterator[bytes | LongLine]:
    """Yield the next `size_bytes` of a stream as blocks of whole lines. A line that is too long is yielded alone.

    Only the last block may lack its line end.
    """
    partial_line = b""
    length = 0
    while chunk := stream.read(min(BLOCK_BYTES, size_bytes)):
        size_bytes -= len(chunk)
        first = chunk.find(b"\n") + 1
        if not first:
            length += len(chunk)
            partial_line += chunk if length <= MAX_ROW_BYTES else b""
            continue
        if length + first - 1 > MAX_ROW_BYTES:
            yield LongLine(partial_line[: 4 * MAX_REJECTED_CHARACTERS], length + first)
            partial_line = b""
        else:
            first = 0
        end = chunk.rfind(b"\n") + 1
        if end > first:
            yield partial_line + chunk[first:end]
        partial_line = chunk[end:]
        length = len(partial_line)
    if length > MAX_ROW_BYTES:
        yield LongLine(partial_line[: 4 * MAX_REJECTED_CHARACTERS], length)
    elif partial_line:
        yield partial_line


def decode_lines(block: bytes) -> tuple[list[str], bool]:
    """Return the lines of a block, and whether the block is valid UTF-8.

    Invalid bytes become lone surrogates, so only the line that contains them is rejected.
    """
    try:
        text, is_valid = block.decode(), True
    except UnicodeDecodeError:
        text, is_valid = block.decode(errors="surrogateescape"), False
    return text.removesuffix("\n").split("\n"), is_valid
