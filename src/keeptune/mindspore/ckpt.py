"""MindSpore's .ckpt files, read and written without MindSpore, and never held in memory.

A file is one protocol buffer, `Checkpoint{repeated Value{string tag; TensorProto tensor}}`, with
`TensorProto{repeated int64 dims; string tensor_type; bytes tensor_content}`: contents are little-endian and in C order,
bfloat16 as its two bytes. MindSpore cuts a tensor of more than 512 MiB into Values with one tag, each with the dims of
the whole. With `crc_check=True` it adds 17 bytes, `crc_num` and a CRC-32 of all before them.

A tensor that is read is a row of views into the file, which the system pages in where they are used: a checkpoint of
16 GB costs no memory until it is copied. Source: mindspore 2.9.0's own files, both ways.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from keeptune.errors import ModelError
from keeptune.files import write_atomically
from keeptune.mindspore import wire

ITEM_BYTES = {
    "Bool": 1,
    "Int8": 1,
    "UInt8": 1,
    "Int16": 2,
    "UInt16": 2,
    "Float16": 2,
    "BFloat16": 2,
    "Int32": 4,
    "UInt32": 4,
    "Float32": 4,
    "Int64": 8,
    "UInt64": 8,
    "Float64": 8,
}
"""The number formats by MindSpore's names. `str`, the format of texts, is left out: no weight is one."""

SLICE_BYTES = 512 * 2**20
"""The most bytes of one tensor that stand under one tag."""

_CRC_MARK, _CRC_DIGITS_BYTES = b"crc_num", 10
_ENCRYPTED_MARKS = frozenset(mark.to_bytes(4, "little") for mark in (0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA))
_CHUNK_BYTES = 16 * 2**20
_MOST_DIMS = 16
_TEXT = "str"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array: its number format by MindSpore's name, its shape, and its bytes in pieces, in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[memoryview, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes the shape and the number format need."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]

    def bytes(self) -> bytearray:
        """A copy of all of it."""
        return bytearray().join(self.pieces)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, in their order. Texts that MindSpore stores among them are left out.

    errors: ModelError when the file is missing, damaged, encrypted or no checkpoint.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a MindSpore .ckpt file") from None
    if bytes(view[:4]) in _ENCRYPTED_MARKS:
        raise ModelError(
            f"{path}: the checkpoint is encrypted; save it without `enc_key` where its key is known, and give that file"
        )
    try:
        tensors = _joined(_values(view, _content_end(view)))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: no whole MindSpore checkpoint ({error}); copy or save it again") from None
    if not tensors:
        raise ModelError(f"{path}: it holds no tensor; give a file that MindSpore's save_checkpoint wrote")
    return tensors


def write(path: Path, tensors: Iterable[Tensor], *, crc: bool = False, slice_bytes: int = SLICE_BYTES) -> None:
    """Puts a checkpoint at `path`, whole or not at all, one tensor after the other.

    errors: RunError when the file cannot be written.
    """

    def save(scratch: Path) -> None:
        checksum = 0
        with scratch.open("wb") as file:
            for tensor in tensors:
                for part in _encoded(tensor, slice_bytes):
                    file.write(part)
                    checksum = zlib.crc32(part, checksum) if crc else 0
            if crc:
                file.write(_CRC_MARK + checksum.to_bytes(_CRC_DIGITS_BYTES, "big"))

    write_atomically(path, save)


def _content_end(view: memoryview) -> int:
    """Where the tensors end. errors: ValueError when there is a checksum and it is another."""
    end = len(view) - len(_CRC_MARK) - _CRC_DIGITS_BYTES
    if end < 0 or bytes(view[end : end + len(_CRC_MARK)]) != _CRC_MARK:
        return len(view)
    checksum = 0
    for start in range(0, end, _CHUNK_BYTES):
        checksum = zlib.crc32(view[start : min(end, start + _CHUNK_BYTES)], checksum)
    if checksum != int.from_bytes(view[-_CRC_DIGITS_BYTES:], "big"):
        raise ValueError("its checksum is not that of its bytes")
    return end


def _values(view: memoryview, end: int) -> Iterator[Tensor]:
    """Each Value of the file, which is a tensor or a slice of one."""
    for field in wire.fields(view, 0, end):
        if field.number != 1 or field.wire != wire.LENGTH_DELIMITED:
            raise ValueError(f"byte {field.start} belongs to no tensor")
        name, tensor = None, None
        for part in wire.fields(view, field.start, field.end):
            if part.number == 1 and part.wire == wire.LENGTH_DELIMITED:
                name = str(view[part.start : part.end], "utf-8")
            elif part.number == 2 and part.wire == wire.LENGTH_DELIMITED:
                tensor = part
            else:
                raise ValueError(f"the value at byte {field.start} is no tensor")
        if name is None or tensor is None:
            raise ValueError(f"the value at byte {field.start} has no name or no tensor")
        slice_ = _slice(view, name, tensor)
        if slice_.dtype != _TEXT:
            yield slice_


def _slice(view: memoryview, name: str, tensor: wire.Field) -> Tensor:
    dtype, content = "", memoryview(b"")
    shape: list[int] = []
    for field in wire.fields(view, tensor.start, tensor.end):
        if (field.number, field.wire) == (1, wire.VARINT):
            shape.append(field.value)
        elif (field.number, field.wire) == (2, wire.LENGTH_DELIMITED):
            dtype = str(view[field.start : field.end], "utf-8")
        elif (field.number, field.wire) == (3, wire.LENGTH_DELIMITED):
            content = view[field.start : field.end]
        else:
            raise ValueError(f"{name!r} holds a field that tensors do not have")
    if len(shape) > _MOST_DIMS:
        raise ValueError(f"{name!r} has {len(shape)} dims")
    if dtype not in ITEM_BYTES and dtype != _TEXT:
        raise ValueError(f"{name!r} is of the unknown number format {dtype!r}")
    # MindSpore writes a scalar with no dims, or with the one dim 0.
    is_scalar = shape == [0] and len(content) > 0
    return Tensor(name, dtype, () if is_scalar else tuple(shape), (content,))


def _joined(slices: Iterable[Tensor]) -> dict[str, Tensor]:
    """Slices that follow each other under one name as one tensor. errors: ValueError unless each is there in whole."""
    tensors: dict[str, Tensor] = {}
    last = ""
    for own in slices:
        if own.name == last:
            before = tensors[last]
            if (before.dtype, before.shape) != (own.dtype, own.shape):
                raise ValueError(f"the slices of {own.name!r} have different shapes or number formats")
            own = Tensor(own.name, own.dtype, own.shape, (*before.pieces, *own.pieces))
        elif own.name in tensors:
            raise ValueError(f"{own.name!r} stands there twice")
        tensors[own.name], last = own, own.name
    for tensor in tensors.values():
        stored = sum(len(piece) for piece in tensor.pieces)
        if stored != tensor.size_bytes:
            wanted = f"{tensor.dtype} of shape {list(tensor.shape)} takes {tensor.size_bytes:,}"
            raise ValueError(f"{tensor.name!r} has {stored:,} bytes, and {wanted}")
    return tensors


def _encoded(tensor: Tensor, slice_bytes: int) -> Iterator[bytes | memoryview]:
    """The bytes of one tensor's Values, the contents themselves uncopied."""
    name = wire.data(1, tensor.name.encode())
    about = b"".join(wire.integer(1, dim) for dim in tensor.shape) + wire.data(2, tensor.dtype.encode())
    for piece in _slices(tensor, slice_bytes):
        inner = about + wire.head(3, len(piece))
        tensor_head = wire.head(2, len(inner) + len(piece))
        yield wire.head(1, len(name) + len(tensor_head) + len(inner) + len(piece)) + name + tensor_head + inner
        yield piece


def _slices(tensor: Tensor, slice_bytes: int) -> Iterator[memoryview]:
    for piece in tensor.pieces:
        for start in range(0, max(1, len(piece)), slice_bytes):
            yield piece[start : start + slice_bytes]
