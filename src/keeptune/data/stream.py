"""The bytes of a file, unpacked where it is compressed, and its lines in blocks: a line too long to be held is
measured and left behind, so no file can make a reader hold more than a block and one line of 1 MB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import maxsize

import pyarrow as pa

from keeptune.data.row import LONGEST_ROW_BYTES, LONGEST_TEXT, TOO_LONG, Rejected
from keeptune.errors import DataError

BLOCK_BYTES = 1 << 18
"""Less than the longest row, so a line that is too long is always the first of its block."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""How what ends so is compressed, by its name in Arrow."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line longer than 1 MB: how it begins, and its length with the line end."""

    opening: bytes
    length: int

    def reject(self, file: str, line: int) -> Rejected:
        """Its record, with its place."""
        text = self.opening.decode(errors="replace")[:LONGEST_TEXT]
        return Rejected(file, line, TOO_LONG, text, self.length)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, those inside where it is compressed, from behind its byte order mark on.

    errors: DataError, also while it is read, when it is missing, unreadable or a damaged archive.
    """
    codec = CODECS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            stream = io.BufferedReader(pa.CompressedInputStream(file, codec), BLOCK_BYTES) if codec else file
            if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
                stream.read(len(BYTE_ORDER_MARK))
            yield stream
    except OSError as error:
        if error.strerror is None:  # Arrow's own, not the system's
            raise DataError(
                f"{path}: cannot be unpacked ({error}); the archive is damaged or cut short, fetch or pack it again"
            ) from None
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that cannot be read: what, where, and what to do."""
    return DataError(f"{path}: cannot be read ({error.strerror}); check its name and its permissions")


def line_blocks(stream: io.BufferedReader, size_bytes: int = maxsize) -> Iterator[bytes | LongLine]:
    """The next `size_bytes` of a stream as blocks of whole lines. A line that is too long comes alone.

    Only the last block may lack its line end.
    """
    begun = b""
    length = 0
    while chunk := stream.read(min(BLOCK_BYTES, size_bytes)):
        size_bytes -= len(chunk)
        first = chunk.find(b"\n") + 1
        if not first:
            length += len(chunk)
            begun += chunk if length <= LONGEST_ROW_BYTES else b""
            continue
        if length + first - 1 > LONGEST_ROW_BYTES:
            yield LongLine(begun[: 4 * LONGEST_TEXT], length + first)
            begun = b""
        else:
            first = 0
        end = chunk.rfind(b"\n") + 1
        if end > first:
            yield begun + chunk[first:end]
        begun = chunk[end:]
        length = len(begun)
    if length > LONGEST_ROW_BYTES:
        yield LongLine(begun[: 4 * LONGEST_TEXT], length)
    elif begun:
        yield begun


def decoded(block: bytes) -> tuple[list[str], bool]:
    """The lines of a block, and whether it is UTF-8. If not, its wrong bytes have become lone surrogates, so that
    they spoil their own line only."""
    try:
        text, is_clean = block.decode(), True
    except UnicodeDecodeError:
        text, is_clean = block.decode(errors="surrogateescape"), False
    return text.removesuffix("\n").split("\n"), is_clean
