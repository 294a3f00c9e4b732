"""Arrays of 32-bit integers as MindRecord stores them: each value in the fewest bytes that hold it.

An array is its count (four bytes, the highest first), two bits a value that say how many bytes it takes (1, 2, 4 or 8,
four values to a byte, from the highest bits down), and the values, the lowest byte first. Many arrays are done at once:
one at a time, most of the time would go into calling numpy. Source: mindspore 2.9.0's own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]

_COUNT_BYTES = 4
_VALUES_PER_BYTE = 4
_MOST_BYTES = 4
_SHIFTS = np.array([6, 4, 2, 0], dtype=np.uint8)


def packed(arrays: Integers) -> list[bytes]:
    """Each row of a matrix as it is stored."""
    rows, count = arrays.shape
    fits = [(arrays >= -(1 << bits - 1)) & (arrays < 1 << bits - 1) for bits in (8, 16)]
    sizes = np.full(arrays.shape, 2, np.uint8) - fits[0] - fits[1]
    tag_count = -(-count // _VALUES_PER_BYTE)
    tags = np.zeros((rows, tag_count * _VALUES_PER_BYTE), np.uint8)
    tags[:, :count] = sizes
    tag_bytes = np.bitwise_or.reduce(tags.reshape(rows, tag_count, _VALUES_PER_BYTE) << _SHIFTS, axis=2)
    widths = np.uint8(1) << sizes
    raw = np.ascontiguousarray(arrays, dtype="<i4").view(np.uint8).reshape(rows, count, _MOST_BYTES)
    kept = raw[np.arange(_MOST_BYTES, dtype=np.uint8) < widths[:, :, None]].tobytes()
    ends = np.cumsum(widths.sum(axis=1, dtype=np.int64)).tolist()
    head = count.to_bytes(_COUNT_BYTES, "big")
    stretches = pairwise([0, *ends])
    return [head + tag.tobytes() + kept[start:end] for tag, (start, end) in zip(tag_bytes, stretches, strict=True)]


def unpacked(pieces: Sequence[bytes | memoryview]) -> list[Integers]:
    """The array in each piece. errors: ValueError where a piece is no such array, or holds more than 32 bits."""
    # Three bytes behind the end, so that four can be taken wherever a value begins.
    stored = np.frombuffer(b"".join([*pieces, bytes(_MOST_BYTES - 1)]), np.uint8)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    if (lengths < _COUNT_BYTES).any():
        raise ValueError("an array has no count")
    starts = _before(lengths)[:-1]
    counts = stored[starts[:, None] + np.arange(_COUNT_BYTES)].copy().view(">u4")[:, 0].astype(np.int64)
    tag_counts = -(-counts // _VALUES_PER_BYTE)
    if (_COUNT_BYTES + tag_counts > lengths).any():
        raise ValueError("an array is shorter than its count says")
    tags = (stored[_ranges(starts + _COUNT_BYTES, tag_counts)][:, None] >> _SHIFTS & 3).reshape(-1)
    tags = tags[_ranges(_before(tag_counts)[:-1] * _VALUES_PER_BYTE, counts)]
    if (tags == 3).any():
        raise ValueError("a value takes 64 bits")
    widths_before, values_before = _before(1 << tags.astype(np.int64)), _before(counts)
    firsts = widths_before[values_before]
    if (_COUNT_BYTES + tag_counts + np.diff(firsts) != lengths).any():
        raise ValueError("an array is not as long as its values")
    values_at = np.repeat(starts + _COUNT_BYTES + tag_counts - firsts[:-1], counts) + widths_before[:-1]
    at_every_byte = np.ndarray((len(stored) - _MOST_BYTES + 1,), "<i4", stored.data, strides=(1,))
    # What lies above a value is its neighbour's: shifted out, and the sign back in.
    above = (32 - (8 << tags)).astype(np.int32)
    values = (at_every_byte[values_at] << above >> above).astype(np.int32, copy=False)
    return [
        values[start:end] for start, end in zip(values_before[:-1].tolist(), values_before[1:].tolist(), strict=True)
    ]


def _before(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of several things begins that follow each other, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of several stretches, one behind the other."""
    return np.repeat(starts - _before(lengths)[:-1], lengths) + np.arange(lengths.sum())
