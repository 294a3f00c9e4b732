"""MindSpore's .ckpt files: what is written is read back bit for bit, and nothing damaged is read at all."""

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


def message(path: Path) -> str:
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
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, written: list[Tensor], crc: bool, slice_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("ckpt") / "x.ckpt"
    write(path, written, crc=crc, slice_bytes=slice_bytes)
    found = read(path)
    assert list(found) == [tensor.name for tensor in written]
    for tensor in written:
        own = found[tensor.name]
        assert (own.dtype, own.shape, own.bytes()) == (tensor.dtype, tensor.shape, tensor.bytes())


def test_the_bytes_are_mindspores(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write(path, [Tensor("w", "Float16", (2, 3), (memoryview(bytes(12)),))])
    assert path.read_bytes() == GOLDEN


def test_values_are_little_endian_in_c_order(tmp_path: Path) -> None:
    path, array = tmp_path / "x.ckpt", np.arange(6, dtype="<f4").reshape(2, 3)
    write(path, [Tensor("w", "Float32", (2, 3), (memoryview(array.tobytes()),))])
    assert np.array_equal(np.frombuffer(read(path)["w"].bytes(), "<f4").reshape(2, 3), array)


def test_texts_are_left_out_and_scalars_have_no_dims(tmp_path: Path) -> None:
    text = wire.integer(1, 0) + wire.data(2, b"str") + wire.data(3, "note".encode("utf-32-le"))
    scalar = wire.integer(1, 0) + wire.data(2, b"Int32") + wire.data(3, (7).to_bytes(4, "little"))
    values = [wire.data(1, wire.data(1, name) + wire.data(2, inner)) for name, inner in ((b"t", text), (b"s", scalar))]
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"".join(values))
    found = read(path)
    assert list(found) == ["s"]
    assert (found["s"].shape, found["s"].bytes()) == ((), b"\x07\0\0\0")


def test_a_checksum_that_differs_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(GOLDEN + b"crc_num" + zlib.crc32(GOLDEN).to_bytes(10, "big"))
    assert read(path)["w"].shape == (2, 3)
    path.write_bytes(GOLDEN[:-1] + b"\1" + b"crc_num" + zlib.crc32(GOLDEN).to_bytes(10, "big"))
    assert message(path) == (
        f"{path}: no whole MindSpore checkpoint (its checksum is not that of its bytes); copy or save it again"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOLDEN[:-1], "the field at byte 2 is 1 bytes longer than what holds it"),
        (GOLDEN + GOLDEN[:-12] + b"\1" * 12 + GOLDEN, "'w' has 36 bytes, and Float16 of shape [2, 3] takes 12"),
        (GOLDEN.replace(b"Float16", b"Float17"), "'w' is of the unknown number format 'Float17'"),
        (GOLDEN.replace(b"\x08\x03", b"\x08\x04"), "'w' has 12 bytes, and Float16 of shape [2, 4] takes 16"),
        (b"\x0b", "there is no wire type 3, as at byte 1"),
        (b"\xff" * 12, "the number at byte 0 does not end"),
        (wire.data(1, wire.data(1, b"w")), "the value at byte 2 has no name or no tensor"),
        (wire.data(1, wire.data(3, b"")), "the value at byte 2 is no tensor"),
        (wire.data(2, b""), "byte 2 belongs to no tensor"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    assert message(path) == f"{path}: no whole MindSpore checkpoint ({reason}); copy or save it again"


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    assert message(path).startswith(f"{path}: cannot be read (No such file")
    path.write_bytes(b"")
    assert message(path).startswith(f"{path}: it holds no tensor")
    path.write_bytes((0x7F3A5ED8).to_bytes(4, "little") + bytes(60))
    assert message(path).startswith(f"{path}: the checkpoint is encrypted")
    other = filled("other", "Int8", (3,))
    write(path, [filled("w", "Int8", (3,)), other, filled("w", "Int8", (3,), seed=1)])
    assert "'w' stands there twice" in message(path)


def test_ten_thousand_damaged_files_end_in_an_error_or_in_whole_tensors(tmp_path: Path) -> None:
    path, draw = tmp_path / "x.ckpt", random.Random(0)
    write(path, [filled("model.layers.0.w", "Float32", (3, 5)), filled("b", "BFloat16", (4,)), filled("c", "Int8", ())])
    whole = path.read_bytes()
    for _ in range(10_000):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        try:
            found = read(path)
        except ModelError:
            continue
        assert all(sum(map(len, tensor.pieces)) == tensor.size_bytes for tensor in found.values())


def test_a_file_of_five_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "x.ckpt", 5 * 2**30
    inner = wire.integer(1, size) + wire.data(2, b"Int8") + wire.head(3, size)
    outer = wire.data(1, b"w") + wire.head(2, len(inner) + size) + inner
    with path.open("wb") as file:
        file.write(wire.head(1, len(outer) + size) + outer)
        file.truncate(file.tell() + size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensor = read(path)["w"]
    assert tensor.shape == (size,)
    assert bytes(tensor.pieces[0][-8:]) == bytes(8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
