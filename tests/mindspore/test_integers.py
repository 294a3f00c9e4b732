"""Packed integers of MindRecord: the bytes follow the format, arrays are read back, damage is detected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.mindspore.integers import pack_integers, unpack_integers

EDGES = [0, 1, -1, 127, 128, -128, -129, 32767, 32768, -32768, -32769, 2**31 - 1, -(2**31)]
values = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1))
arrays = st.lists(values, max_size=13)


def pack_by_value(array: list[int]) -> bytes:
    """Packs an array one value at a time."""
    tags, body = 0, b""
    for value in array:
        size = next(size for size in range(3) if -(1 << (8 << size) - 1) <= value < 1 << (8 << size) - 1)
        tags = tags << 2 | size
        body += value.to_bytes(1 << size, "little", signed=True)
    tag_bytes = -(-len(array) // 4)
    tags <<= 2 * (4 * tag_bytes - len(array))
    return len(array).to_bytes(4, "big") + tags.to_bytes(tag_bytes, "big") + body


@given(st.integers(0, 13).flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_packing_matches_a_simple_implementation(rows: list[list[int]]) -> None:
    assert pack_integers(np.array(rows, np.int32).reshape(len(rows), -1)) == [pack_by_value(row) for row in rows]


@given(st.lists(arrays, max_size=5))
def test_arrays_of_different_lengths_are_unpacked(rows: list[list[int]]) -> None:
    assert [array.tolist() for array in unpack_integers([pack_by_value(row) for row in rows])] == rows


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (b"\0\0\0", "has no length"),
        (b"\0\0\0\5\0", "shorter than its length"),
        (b"\xff\xff\xff\xff\0", "shorter than its length"),
        (b"\0\0\0\1\xc0" + bytes(8), "64 bits"),
        (b"\0\0\0\1\x40\1", "do not match its values"),
        (b"\0\0\0\1\x00\1\1", "do not match its values"),
    ],
)
def test_damaged_array_names_the_reason(piece: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_integers([pack_by_value([1, 2]), piece])
