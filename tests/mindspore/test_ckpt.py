"""MindSpore .ckpt files: tensors are read back bit for bit, and damaged files raise an error."""

import os
import random
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import ModelError
from keeptune.mindspore import wire
from keeptune.mindspore.ckpt import ITEM_BYTES, Tensor, read, write

GOLDEN = bytes.fromhex("0a200a0177121b080208031207" + b"Float16".hex() + "1a0c" + "00" * 12)


def filled(name: str, dtype: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    empty = Tensor(name, dtype, shape, ())
    return Tensor(name, dtype, shape, (memoryview(random.Random(seed).randbytes(empty.size_bytes)),))


def error_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read(path)
    return str(caught.value)


shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
tensors = st.lists(
    st.builds(
        filled, st.text(min_size=1, max_size=200), st.sampled_from(sorted(ITEM_BYTES)), shapes, st.integers(0, 9)
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda tensor: tensor.name,
)


@given(tensors, st.booleans(), st.integers(1, 40))
def test_written_tensors_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[Tensor], crc: bool, slice_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("ckpt") / "x.ckpt"
    write(path, written, crc=crc, slice_bytes=slice_bytes)
    tensors_read = read(path)
    assert list(tensors_read) == [tensor.name for tensor in written]
    for tensor in written:
        copy = tensors_read[tensor.name]
        assert (copy.dtype, copy.shape, copy.bytes()) == (tensor.dtype, tensor.shape, tensor.bytes())


def test_bytes_equal_mindspore_s(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write(path, [Tensor("w", "Float16", (2, 3), (memoryview(bytes(12)),))])
    assert path.read_bytes() == GOLDEN


def test_values_are_little_endian_in_c_order(tmp_path: Path) -> None:
    path, array = tmp_path / "x.ckpt", np.arange(6, dtype="<f4").reshape(2, 3)
    write(path, [Tensor("w", "Float32", (2, 3), (memoryview(array.tobytes()),))])
    assert np.array_equal(np.frombuffer(read(path)["w"].bytes(), "<f4").reshape(2, 3), array)


def test_texts_are_skipped_and_scalars_have_no_dims(tmp_path: Path) -> None:
    text = wire.integer_field(1, 0) + wire.bytes_field(2, b"str") + wire.bytes_field(3, "note".encode("utf-32-le"))
    scalar = wire.integer_field(1, 0) + wire.bytes_field(2, b"Int32") + wire.bytes_field(3, (7).to_bytes(4, "little"))
    values = [
        wire.bytes_field(1, wire.bytes_field(1, name) + wire.bytes_field(2, inner))
        for name, inner in ((b"t", text), (b"s", scalar))
    ]
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"".join(values))
    scalars = read(path)
    assert list(scalars) == ["s"]
    assert (scalars["s"].shape, scalars["s"].bytes()) == ((), b"\x07\0\0\0")


def test_wrong_checksum_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(GOLDEN + b"crc_num" + zlib.crc32(GOLDEN).to_bytes(10, "big"))
    assert read(path)["w"].shape == (2, 3)
    path.write_bytes(GOLDEN[:-1] + b"\1" + b"crc_num" + zlib.crc32(GOLDEN).to_bytes(10, "big"))
    assert str(path) in error_of(path) and "checksum" in error_of(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOLDEN[:-1], "byte 2"),
        (GOLDEN + GOLDEN[:-12] + b"\1" * 12 + GOLDEN, "'w' has 36 bytes"),
        (GOLDEN.replace(b"Float16", b"Float17"), "'Float17'"),
        (GOLDEN.replace(b"\x08\x03", b"\x08\x04"), "shape [2, 4]"),
        (b"\x0b", "wire type 3"),
        (b"\xff" * 12, "integer at byte 0"),
        (wire.bytes_field(1, wire.bytes_field(1, b"w")), "no name or no tensor"),
        (wire.bytes_field(1, wire.bytes_field(3, b"")), "field in the value at byte 2"),
        (wire.bytes_field(2, b""), "unexpected field at byte 2"),
    ],
)
def test_damaged_file_names_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    assert str(path) in error_of(path) and reason in error_of(path)


def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    assert "cannot be read (No such file" in error_of(path)
    path.write_bytes(b"")
    assert "no tensors" in error_of(path)
    path.write_bytes((0x7F3A5ED8).to_bytes(4, "little") + bytes(60))
    assert "encrypted" in error_of(path)
    other = filled("other", "Int8", (3,))
    write(path, [filled("w", "Int8", (3,)), other, filled("w", "Int8", (3,), seed=1)])
    assert "'w' appears twice" in error_of(path)


def test_damaged_files_raise_or_yield_complete_tensors(tmp_path: Path) -> None:
    path, draw = tmp_path / "x.ckpt", random.Random(0)
    write(path, [filled("model.layers.0.w", "Float32", (3, 5)), filled("b", "BFloat16", (4,)), filled("c", "Int8", ())])
    whole = path.read_bytes()
    for _ in range(10_000):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        try:
            tensors_read = read(path)
        except ModelError:
            continue
        assert all(sum(map(len, tensor.pieces)) == tensor.size_bytes for tensor in tensors_read.values())


def test_reading_5_gib_takes_no_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "x.ckpt", 5 * 2**30
    inner = wire.integer_field(1, size) + wire.bytes_field(2, b"Int8") + wire.field_header(3, size)
    outer = wire.bytes_field(1, b"w") + wire.field_header(2, len(inner) + size) + inner
    with path.open("wb") as file:
        file.write(wire.field_header(1, len(outer) + size) + outer)
        file.truncate(file.tell() + size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensor = read(path)["w"]
    assert tensor.shape == (size,)
    assert bytes(tensor.pieces[0][-8:]) == bytes(8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    """F18: a mapped file ended the process (SIGBUS)."""
    path = tmp_path / "x.ckpt"
    write(path, [filled("w", "Float32", (1000, 1000))])
    tensor = read(path)["w"]
    os.truncate(path, 1_000_000)
    with pytest.raises(ModelError, match=r"x\.ckpt.*shorter"):
        tensor.bytes()


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="not a regular file"):
        read(tmp_path / "x.ckpt")


def test_dims_and_names_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    for name, dims in ((b"w", 100_000), (b"w" * 100_000, 1)):
        tensor = wire.integer_field(1, 1) * dims + wire.bytes_field(2, b"Int8") + wire.bytes_field(3, b"1")
        value = wire.bytes_field(1, name) + wire.bytes_field(2, tensor)
        path.write_bytes(wire.bytes_field(1, value))
        with pytest.raises(ModelError, match=r"more than 16 dims|longer than"):
            read(path)
