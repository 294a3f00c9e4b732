"""Checkpoints: mindspore loads what keeptune writes, and keeptune reads what mindspore saves, bit for bit."""

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from keeptune.mindspore import ckpt

# Not `mindspore` alone: where it is not installed, that would be the folder of tests with this name.
pytest.importorskip("mindspore.mindrecord", reason="mindspore is not installed; `make test-mindspore` installs it")
mindspore = import_module("mindspore")

SHAPES = ((3, 5), (7,), ())


def bits(tensor: Any) -> bytes:
    """What lies in memory, for bfloat16 too."""
    if tensor.dtype == mindspore.bfloat16:
        # Each is a float32 whose lower half is zero.
        wide = tensor.astype(mindspore.float32).asnumpy().tobytes()
        return b"".join(wide[at + 2 : at + 4] for at in range(0, len(wide), 4))
    return bytes(tensor.asnumpy().tobytes())


def drawn(dtype: str, shape: tuple[int, ...]) -> ckpt.Tensor:
    """Any bits; none of them a NaN, which a conversion may change, and truths are 0 or 1."""
    size = ckpt.Tensor("", dtype, shape, ()).size_bytes
    content = bytearray(random.Random(f"{dtype}{shape}").randbytes(size))
    if dtype == "Bool":
        content = bytearray(byte & 1 for byte in content)
    elif "Float" in dtype:
        width = ckpt.ITEM_BYTES[dtype]
        content[width - 1 :: width] = bytes(byte & 0xBF for byte in content[width - 1 :: width])
    return ckpt.Tensor(f"model.{dtype}.{len(shape)}", dtype, shape, (memoryview(bytes(content)),))


@pytest.mark.parametrize("crc", [False, True], ids=["plain", "checksum"])
def test_mindspore_loads_what_is_written(tmp_path: Path, crc: bool) -> None:
    path, written = tmp_path / "x.ckpt", [drawn(dtype, shape) for dtype in ckpt.ITEM_BYTES for shape in SHAPES]
    ckpt.write(path, written, crc=crc, slice_bytes=16)
    loaded = mindspore.load_checkpoint(str(path), crc_check=crc)
    assert list(loaded) == [tensor.name for tensor in written]
    for tensor in written:
        own = loaded[tensor.name]
        assert (str(own.dtype), own.shape, bits(own)) == (tensor.dtype, tensor.shape, bytes(tensor.bytes()))


@pytest.mark.parametrize("crc", [False, True], ids=["plain", "checksum"])
def test_what_mindspore_saves_is_read(tmp_path: Path, crc: bool) -> None:
    wanted = [drawn(dtype, shape) for dtype in ckpt.ITEM_BYTES for shape in SHAPES]
    first, path = tmp_path / "first.ckpt", tmp_path / "x.ckpt"
    ckpt.write(first, wanted)
    parameters = mindspore.load_checkpoint(str(first))
    listed = [{"name": name, "data": parameter} for name, parameter in parameters.items()]
    mindspore.save_checkpoint(listed, str(path), crc_check=crc, append_dict={"epoch_num": 3, "note": "a text"})
    read = ckpt.read(path)
    for tensor in wanted:
        own = read[tensor.name]
        assert (own.dtype, own.shape, own.bytes()) == (tensor.dtype, tensor.shape, tensor.bytes())
    assert set(read) - {tensor.name for tensor in wanted} == {"epoch_num"}
