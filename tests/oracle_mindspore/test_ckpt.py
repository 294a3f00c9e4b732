"""Checkpoints: mindspore loads keeptune's, and keeptune reads mindspore's, bit for bit."""

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from keeptune.mindspore import ckpt

# Not plain `mindspore`: if it is not installed, that name would find the test folder.
pytest.importorskip("mindspore.mindrecord", reason="mindspore is not installed; `make test-mindspore` installs it")
mindspore = import_module("mindspore")

SHAPES = ((3, 5), (7,), ())


def bits(tensor: Any) -> bytes:
    """The tensor's bytes in memory, also for bfloat16."""
    if tensor.dtype == mindspore.bfloat16:
        # numpy has no bfloat16: a bfloat16 is the upper half of a float32.
        wide = tensor.astype(mindspore.float32).asnumpy().tobytes()
        return b"".join(wide[start + 2 : start + 4] for start in range(0, len(wide), 4))
    return bytes(tensor.asnumpy().tobytes())


def random_tensor(dtype: str, shape: tuple[int, ...]) -> ckpt.Tensor:
    """Random bits, but no NaN, which a conversion may change, and only 0 or 1 for Bool."""
    size = ckpt.Tensor("", dtype, shape, ()).size_bytes
    content = bytearray(random.Random(f"{dtype}{shape}").randbytes(size))
    if dtype == "Bool":
        content = bytearray(byte & 1 for byte in content)
    elif "Float" in dtype:
        width = ckpt.ITEM_BYTES[dtype]
        content[width - 1 :: width] = bytes(byte & 0xBF for byte in content[width - 1 :: width])
    return ckpt.Tensor(f"model.{dtype}.{len(shape)}", dtype, shape, (memoryview(bytes(content)),))


@pytest.mark.parametrize("crc", [False, True], ids=["plain", "checksum"])
def test_mindspore_loads_keeptune_s_checkpoint(tmp_path: Path, crc: bool) -> None:
    path, written = tmp_path / "x.ckpt", [random_tensor(dtype, shape) for dtype in ckpt.ITEM_BYTES for shape in SHAPES]
    ckpt.write(path, written, crc=crc, slice_bytes=16)
    loaded = mindspore.load_checkpoint(str(path), crc_check=crc)
    assert list(loaded) == [tensor.name for tensor in written]
    for tensor in written:
        copy = loaded[tensor.name]
        assert (str(copy.dtype), copy.shape, bits(copy)) == (tensor.dtype, tensor.shape, bytes(tensor.bytes()))


@pytest.mark.parametrize("crc", [False, True], ids=["plain", "checksum"])
def test_keeptune_reads_mindspore_s_checkpoint(tmp_path: Path, crc: bool) -> None:
    expected = [random_tensor(dtype, shape) for dtype in ckpt.ITEM_BYTES for shape in SHAPES]
    first, path = tmp_path / "first.ckpt", tmp_path / "x.ckpt"
    ckpt.write(first, expected)
    parameters = mindspore.load_checkpoint(str(first))
    listed = [{"name": name, "data": parameter} for name, parameter in parameters.items()]
    mindspore.save_checkpoint(listed, str(path), crc_check=crc, append_dict={"epoch_num": 3, "note": "a text"})
    read = ckpt.read(path)
    for tensor in expected:
        copy = read[tensor.name]
        assert (copy.dtype, copy.shape, copy.bytes()) == (tensor.dtype, tensor.shape, tensor.bytes())
    assert set(read) - {tensor.name for tensor in expected} == {"epoch_num"}
