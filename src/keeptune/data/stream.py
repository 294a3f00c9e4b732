"""Reads a file as bytes, decompressed if necessary, and splits it into blocks of lines.

A line longer than 1 MB is measured but not kept, so a reader holds at most one block and one line of 1 MB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import maxsize

import pyarrow as pa

from keeptune.data.row import MAX_REJECTED_CHARACTERS, MAX_ROW_BYTES, TOO_LONG, RejectedRow
from keeptune.errors import DataError
from keeptune.files import open_regular

BLOCK_BYTES = 1 << 18
"""Bytes per read. It is less than `MAX_ROW_BYTES`, so a line that is too long is always the first of its block."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Arrow's name of the codec, by the suffix of the file name."""


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
            stream = io.BufferedReader(pa.CompressedInputStream(file, codec), BLOCK_BYTES) if codec else file
            if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
                stream.read(len(BYTE_ORDER_MARK))
            yield stream
    except OSError as error:
        if error.strerror is None:  # raised by Arrow, not by the operating system
            raise DataError(
                f"{path}: cannot be unpacked ({error}); the archive is damaged or truncated, download or pack it again"
            ) from None
        raise unreadable_error(path, error) from None


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
