"""MindRecord's integers: every array comes back, in the bytes that the format says, and damage is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.mindspore.integers import packed, unpacked

EDGES = [0, 1, -1, 127, 128, -128, -129, 32767, 32768, -32768, -32769, 2**31 - 1, -(2**31)]
values = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1))
arrays = st.lists(values, max_size=13)


def by_hand(array: list[int]) -> bytes:
    """The format value by value."""
    tags, body = 0, b""
    for value in array:
        size = next(size for size in range(3) if -(1 << (8 << size) - 1) <= value < 1 << (8 << size) - 1)
        tags = tags << 2 | size
        body += value.to_bytes(1 << size, "little", signed=True)
    tag_bytes = -(-len(array) // 4)
    tags <<= 2 * (4 * tag_bytes - len(array))
    return len(array).to_bytes(4, "big") + tags.to_bytes(tag_bytes, "big") + body


@given(st.integers(0, 13).flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_arrays_of_one_length_are_packed_value_by_value(rows: list[list[int]]) -> None:
    assert packed(np.array(rows, np.int32).reshape(len(rows), -1)) == [by_hand(row) for row in rows]


@given(st.lists(arrays, max_size=5))
def test_arrays_of_any_length_are_unpacked(rows: list[list[int]]) -> None:
    assert [array.tolist() for array in unpacked([by_hand(row) for row in rows])] == rows


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (b"\0\0\0", "an array has no count"),
        (b"\0\0\0\5\0", "an array is shorter than its count says"),
        (b"\xff\xff\xff\xff\0", "an array is shorter than its count says"),
        (b"\0\0\0\1\xc0" + bytes(8), "a value takes 64 bits"),
        (b"\0\0\0\1\x40\1", "an array is not as long as its values"),
        (b"\0\0\0\1\x00\1\1", "an array is not as long as its values"),
    ],
)
def test_what_is_damaged_is_named(piece: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        unpacked([by_hand([1, 2]), piece])
