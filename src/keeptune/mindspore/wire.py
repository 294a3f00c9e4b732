"""Reads and writes the protocol buffer wire format, as far as MindSpore's files use it.

The reader checks each length against the bytes that are left before it uses it. A damaged file therefore raises an
error; it never yields a wrong tensor or allocates more memory than the file has bytes.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

VARINT, LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_MAX_VARINT_BYTES = 10


class Bytes(Protocol):
    """What is read byte by byte: a buffer, or a file."""

    def __getitem__(self, place: int, /) -> int:
        """The byte at an offset."""


class Field(NamedTuple):
    """A field: its number, its wire type, its value if that is an integer, and the offsets of its content."""

    number: int
    wire: int
    value: int
    start: int
    end: int


def fields(buffer: Bytes, start: int, end: int) -> Iterator[Field]:
    """Yields the fields between two offsets of a buffer.

    Raises:
        ValueError: when the bytes are not valid fields.
    """
    position = start
    while position < end:
        key, position = _read_varint(buffer, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"invalid field number 0 before byte {position}")
        value, begin = 0, position
        if wire == VARINT:
            value, position = _read_varint(buffer, position, end)
        elif wire == LENGTH_DELIMITED:
            length, begin = _read_varint(buffer, position, end)
            position = begin + length
        elif wire in _FIXED_BYTES:
            position += _FIXED_BYTES[wire]
        else:
            raise ValueError(f"unknown wire type {wire} before byte {position}")
        if position > end:
            raise ValueError(f"the field at byte {begin} ends {position - end:,} bytes after its parent")
        yield Field(number, wire, value, begin, position)


def _read_varint(buffer: Bytes, start: int, end: int) -> tuple[int, int]:
    """The integer that begins at an offset, and the offset after it."""
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if start + count >= end:
            break
        byte = buffer[start + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, start + count + 1
    raise ValueError(f"the integer at byte {start} has no last byte")


def varint(value: int) -> bytes:
    """Encodes an integer ≥ 0."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def integer_field(number: int, value: int) -> bytes:
    """Encodes a field whose value is an integer ≥ 0."""
    return varint(number << 3 | VARINT) + varint(value)


def field_header(number: int, length: int) -> bytes:
    """The bytes before the content of a length-delimited field: its key and the content's length in bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(length)


def bytes_field(number: int, content: bytes) -> bytes:
    """Encodes a length-delimited field: a string, a message or raw bytes."""
    return field_header(number, len(content)) + content
