"""Packs arrays of 32-bit integers as MindRecord stores them: each value in 1, 2, 4 or 8 bytes.

An array is stored as its length (four bytes, big-endian), two bits per value that say how many bytes the value takes
(four values per byte, from the high bits down), and the values, each little-endian. Both functions process many arrays
per numpy call, because one call per array costs most of the time. Source: files that mindspore 2.9.0 writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]

_COUNT_BYTES = 4
_VALUES_PER_BYTE = 4
_MAX_VALUE_BYTES = 4
_SHIFTS = np.array([6, 4, 2, 0], dtype=np.uint8)


def pack_integers(arrays: Integers) -> list[bytes]:
    """Each row of a matrix in MindRecord's format."""
    rows, count = arrays.shape
    fits = [(arrays >= -(1 << bits - 1)) & (arrays < 1 << bits - 1) for bits in (8, 16)]
    sizes = np.full(arrays.shape, 2, np.uint8) - fits[0] - fits[1]
    tag_count = -(-count // _VALUES_PER_BYTE)
    tags = np.zeros((rows, tag_count * _VALUES_PER_BYTE), np.uint8)
    tags[:, :count] = sizes
    tag_bytes = np.bitwise_or.reduce(tags.reshape(rows, tag_count, _VALUES_PER_BYTE) << _SHIFTS, axis=2)
    widths = np.uint8(1) << sizes
    raw = np.ascontiguousarray(arrays, dtype="<i4").view(np.uint8).reshape(rows, count, _MAX_VALUE_BYTES)
    content = raw[np.arange(_MAX_VALUE_BYTES, dtype=np.uint8) < widths[:, :, None]].tobytes()
    ends = np.cumsum(widths.sum(axis=1, dtype=np.int64)).tolist()
    length = count.to_bytes(_COUNT_BYTES, "big")
    ranges = pairwise([0, *ends])
    return [length + tag.tobytes() + content[start:end] for tag, (start, end) in zip(tag_bytes, ranges, strict=True)]


def unpack_integers(pieces: Sequence[bytes | memoryview]) -> list[Integers]:
    """The array in each piece.

    Raises:
        ValueError: when a piece is not a packed array, or a value takes more than 32 bits.
    """
    # Three bytes after the end, so that four bytes can be read from the start of any value.
    stored = np.frombuffer(b"".join([*pieces, bytes(_MAX_VALUE_BYTES - 1)]), np.uint8)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    if (lengths < _COUNT_BYTES).any():
        raise ValueError("an array has no length")
    starts = _offsets(lengths)[:-1]
    counts = stored[starts[:, None] + np.arange(_COUNT_BYTES)].copy().view(">u4")[:, 0].astype(np.int64)
    tag_counts = -(-counts // _VALUES_PER_BYTE)
    if (_COUNT_BYTES + tag_counts > lengths).any():
        raise ValueError("an array is shorter than its length")
    tags = (stored[_ranges(starts + _COUNT_BYTES, tag_counts)][:, None] >> _SHIFTS & 3).reshape(-1)
    tags = tags[_ranges(_offsets(tag_counts)[:-1] * _VALUES_PER_BYTE, counts)]
    if (tags == 3).any():
        raise ValueError("a value takes 64 bits")
    byte_offsets, value_offsets = _offsets(1 << tags.astype(np.int64)), _offsets(counts)
    first_bytes = byte_offsets[value_offsets]
    if (_COUNT_BYTES + tag_counts + np.diff(first_bytes) != lengths).any():
        raise ValueError("an array's bytes do not match its values")
    positions = np.repeat(starts + _COUNT_BYTES + tag_counts - first_bytes[:-1], counts) + byte_offsets[:-1]
    at_every_byte = np.ndarray((len(stored) - _MAX_VALUE_BYTES + 1,), "<i4", stored.data, strides=(1,))
    # The high bytes belong to the next value: shift them out to the left, then shift back with the sign.
    excess_bits = (32 - (8 << tags)).astype(np.int32)
    values = (at_every_byte[positions] << excess_bits >> excess_bits).astype(np.int32, copy=False)
    return [values[start:end] for start, end in pairwise(value_offsets.tolist())]


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The start of each of several consecutive ranges, and the end of the last one."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions that several ranges cover, concatenated."""
    return np.repeat(starts - _offsets(lengths)[:-1], lengths) + np.arange(lengths.sum())
