"""Protocol buffers' wire format, as far as MindSpore's files need it: fields, one after the other, in a buffer.

Reading trusts nothing: a length is compared with what is left before it is used, so a damaged file ends in an error
and never in a wrong tensor or in more memory than the file has bytes.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_MOST_VARINT_BYTES = 10


class Field(NamedTuple):
    """A field's number, its wire type, its value where that is an integer, and where its bytes begin and end."""

    number: int
    wire: int
    value: int
    start: int
    end: int


def fields(buffer: memoryview, start: int, end: int) -> Iterator[Field]:
    """The fields between two offsets. errors: ValueError where the bytes are no fields."""
    at = start
    while at < end:
        key, at = _varint(buffer, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"there is no field at byte {at}")
        value, begin = 0, at
        if wire == VARINT:
            value, at = _varint(buffer, at, end)
        elif wire == LENGTH_DELIMITED:
            length, begin = _varint(buffer, at, end)
            at = begin + length
        elif wire in _FIXED_BYTES:
            at += _FIXED_BYTES[wire]
        else:
            raise ValueError(f"there is no wire type {wire}, as at byte {at}")
        if at > end:
            raise ValueError(f"the field at byte {begin} is {at - end:,} bytes longer than what holds it")
        yield Field(number, wire, value, begin, at)


def _varint(buffer: memoryview, at: int, end: int) -> tuple[int, int]:
    """The integer that begins at an offset, and the offset behind it."""
    value = 0
    for count in range(_MOST_VARINT_BYTES):
        if at + count >= end:
            break
        byte = buffer[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError(f"the number at byte {at} does not end")


def varint(value: int) -> bytes:
    """A number of at least 0."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def integer(number: int, value: int) -> bytes:
    """A field that is an integer of at least 0."""
    return varint(number << 3 | VARINT) + varint(value)


def head(number: int, length: int) -> bytes:
    """What stands before the bytes of a text, a message or raw data of so many bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(length)


def data(number: int, content: bytes) -> bytes:
    """A field that is a text, a message or raw data."""
    return head(number, len(content)) + content
