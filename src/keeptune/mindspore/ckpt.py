"""Reads and writes MindSpore .ckpt files without MindSpore and without holding them in memory.

A file is one protocol buffer message, `Checkpoint{repeated Value{string tag; TensorProto tensor}}`, with
`TensorProto{repeated int64 dims; string tensor_type; bytes tensor_content}`. Contents are little-endian and in C order;
a bfloat16 is stored as its two bytes. MindSpore splits a tensor of more than 512 MiB into several Values with the same
tag, each with the dims of the whole tensor. With `crc_check=True` it appends 17 bytes: `crc_num` and a CRC-32 of all
bytes before them.

`read` returns parts of the file that are read when they are used, so a 16 GB checkpoint takes no memory until then.
Source: files that mindspore 2.9.0 writes and reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from keeptune.errors import ModelError
from keeptune.files import write_atomically
from keeptune.mindspore import wire
from keeptune.mindspore.file_bytes import FileBytes, FilePart

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
"""Bytes per value of each MindSpore dtype. `str`, the dtype of texts, is missing because no weight has it."""

SLICE_BYTES = 512 * 2**20
"""The size from which MindSpore splits a tensor into several Values."""

_CRC_MARK, _CRC_DIGITS_BYTES = b"crc_num", 10
_ENCRYPTED_MARKS = frozenset(mark.to_bytes(4, "little") for mark in (0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA))
_CHUNK_BYTES = 16 * 2**20
_MAX_DIMS = 16
_MAX_TENSORS = 1_000_000
_MAX_NAME_BYTES = 10_000
_TEXT = "str"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array: its MindSpore dtype, its shape, and its bytes in one or more pieces, in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[memoryview | FilePart, ...]

    @property
    def size_bytes(self) -> int:
        """The number of bytes that the shape and the dtype need."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]

    def bytes(self) -> bytearray:
        """A copy of all bytes."""
        return bytearray().join(piece[:] for piece in self.pieces)

    def blocks(self) -> Iterator[memoryview]:
        """Yields all bytes in blocks of at most 16 MiB."""
        for piece in self.pieces:
            for start in range(0, len(piece), _CHUNK_BYTES):
                yield memoryview(piece[start : start + _CHUNK_BYTES])


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, in file order. Texts that MindSpore stores among them are skipped.

    Raises:
        ModelError: when the file is missing, damaged, encrypted or not a checkpoint.
    """
    try:
        content = FileBytes(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a MindSpore .ckpt file") from None
    if content[:4] in _ENCRYPTED_MARKS:
        raise ModelError(f"{path}: the checkpoint is encrypted; load it with its key and save it without `enc_key`")
    try:
        tensors = _join_slices(_read_values(content, _content_end(content)))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: not a MindSpore checkpoint, or a damaged one ({error}); copy or save it again"
        ) from None
    if not tensors:
        raise ModelError(f"{path}: the checkpoint has no tensors; give a file that save_checkpoint wrote")
    return tensors


def write(path: Path, tensors: Iterable[Tensor], *, crc: bool = False, slice_bytes: int = SLICE_BYTES) -> None:
    """Writes a checkpoint atomically, one tensor at a time.

    Raises:
        RunError: when the file cannot be written.
    """

    def save(temporary: Path) -> None:
        checksum = 0
        with temporary.open("wb") as file:
            for tensor in tensors:
                for part in _encode(tensor, slice_bytes):
                    file.write(part)
                    checksum = zlib.crc32(part, checksum) if crc else 0
            if crc:
                file.write(_CRC_MARK + checksum.to_bytes(_CRC_DIGITS_BYTES, "big"))

    write_atomically(path, save)


def _content_end(content: FileBytes) -> int:
    """The offset at which the tensors end.

    Raises:
        ValueError: when the file has a checksum and its bytes do not match it.
    """
    end = len(content) - len(_CRC_MARK) - _CRC_DIGITS_BYTES
    if end < 0 or content[end : end + len(_CRC_MARK)] != _CRC_MARK:
        return len(content)
    checksum = 0
    for start in range(0, end, _CHUNK_BYTES):
        checksum = zlib.crc32(content[start : min(end, start + _CHUNK_BYTES)], checksum)
    if checksum != int.from_bytes(content[-_CRC_DIGITS_BYTES:], "big"):
        raise ValueError("the checksum does not match the content")
    return end


def _read_values(content: FileBytes, end: int) -> Iterator[Tensor]:
    """Yields each Value of the file, which is a tensor or a slice of one."""
    for field in wire.fields(content, 0, end):
        if field.number != 1 or field.wire != wire.LENGTH_DELIMITED:
            raise ValueError(f"unexpected field at byte {field.start}")
        name, tensor = None, None
        for part in wire.fields(content, field.start, field.end):
            if part.number == 1 and part.wire == wire.LENGTH_DELIMITED:
                name = _text(content, part)
            elif part.number == 2 and part.wire == wire.LENGTH_DELIMITED:
                tensor = part
            else:
                raise ValueError(f"unexpected field in the value at byte {field.start}")
        if name is None or tensor is None:
            raise ValueError(f"the value at byte {field.start} has no name or no tensor")
        tensor_slice = _read_slice(content, name, tensor)
        if tensor_slice.dtype != _TEXT:
            yield tensor_slice


def _text(content: FileBytes, field: wire.Field) -> str:
    if field.end - field.start > _MAX_NAME_BYTES:
        raise ValueError(f"the name at byte {field.start} is longer than {_MAX_NAME_BYTES:,} bytes")
    return content[field.start : field.end].decode()


def _read_slice(content: FileBytes, name: str, tensor: wire.Field) -> Tensor:
    dtype, values = "", FilePart(content, 0, 0)
    shape: list[int] = []
    for field in wire.fields(content, tensor.start, tensor.end):
        if len(shape) > _MAX_DIMS:
            raise ValueError(f"{name!r} has more than {_MAX_DIMS} dims")
        if (field.number, field.wire) == (1, wire.VARINT):
            shape.append(field.value)
        elif (field.number, field.wire) == (2, wire.LENGTH_DELIMITED):
            dtype = _text(content, field)
        elif (field.number, field.wire) == (3, wire.LENGTH_DELIMITED):
            values = FilePart(content, field.start, field.end)
        else:
            raise ValueError(f"unexpected field in the tensor {name!r}")
    if dtype not in ITEM_BYTES and dtype != _TEXT:
        raise ValueError(f"{name!r} has the unknown dtype {dtype!r}")
    # MindSpore writes a scalar with no dims, or with the one dim 0.
    is_scalar = shape == [0] and len(values) > 0
    return Tensor(name, dtype, () if is_scalar else tuple(shape), (values,))


def _join_slices(slices: Iterable[Tensor]) -> dict[str, Tensor]:
    """Joins consecutive slices with the same name.

    Raises:
        ValueError: when slices disagree, a name appears twice, or a tensor has too few or too many bytes.
    """
    tensors: dict[str, Tensor] = {}
    last = ""
    for current in slices:
        if current.name == last:
            previous = tensors[last]
            if (previous.dtype, previous.shape) != (current.dtype, current.shape):
                raise ValueError(f"the slices of {current.name!r} have different shapes or dtypes")
            current = Tensor(current.name, current.dtype, current.shape, (*previous.pieces, *current.pieces))
        elif current.name in tensors:
            raise ValueError(f"{current.name!r} appears twice")
        elif len(tensors) == _MAX_TENSORS:
            raise ValueError(f"it has more than {_MAX_TENSORS:,} tensors")
        tensors[current.name], last = current, current.name
    for tensor in tensors.values():
        stored = sum(len(piece) for piece in tensor.pieces)
        if stored != tensor.size_bytes:
            expected = f"{tensor.dtype} with shape {list(tensor.shape)} needs {tensor.size_bytes:,}"
            raise ValueError(f"{tensor.name!r} has {stored:,} bytes; {expected}")
    return tensors


def _encode(tensor: Tensor, slice_bytes: int) -> Iterator[bytes | memoryview]:
    """Yields the bytes of one tensor's Values without copying the contents."""
    name = wire.bytes_field(1, tensor.name.encode())
    dims = b"".join(wire.integer_field(1, dim) for dim in tensor.shape)
    description = dims + wire.bytes_field(2, tensor.dtype.encode())
    for piece in _split_pieces(tensor, slice_bytes):
        inner = description + wire.field_header(3, len(piece))
        tensor_header = wire.field_header(2, len(inner) + len(piece))
        value_bytes = len(name) + len(tensor_header) + len(inner) + len(piece)
        yield wire.field_header(1, value_bytes) + name + tensor_header + inner
        yield piece


def _split_pieces(tensor: Tensor, slice_bytes: int) -> Iterator[bytes | memoryview]:
    for piece in tensor.pieces:
        for start in range(0, max(1, len(piece)), slice_bytes):
            yield piece[start : start + slice_bytes]
