"""Reads the metadata of a GGUF file. Each length is checked against the bytes that are left.

The reader of the `gguf` package trusts the length of an array: a file of 300 bytes can make it fill the memory.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import struct
from io import BufferedReader
from pathlib import Path

from keeptune.files import open_regular

Metadata = dict[str, "int | float | bool | str"]

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The formats of `struct`, by the number of the type."""
_TEXT, _ARRAY = 8, 9
_MAX_TEXT_BYTES = 16 << 20
"""Longer texts are skipped. Chat templates are the longest ones, with some kB."""


def read_metadata(path: Path) -> Metadata:
    """The metadata of a GGUF file, without its arrays.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no GGUF file in little-endian order, or a damaged one.
    """
    with open_regular(path) as stream:
        reader = _HeaderReader(stream)
        if reader.read(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = reader.number("I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version} is unknown")
        reader.number("Q")  # the number of tensors
        values: Metadata = {}
        for _ in range(int(reader.number("Q"))):
            name, value = reader.text(), reader.value(int(reader.number("I")))
            if name is not None and value is not None:
                values[name] = value
        return values


class _HeaderReader:
    """Reads the values of a header in their order."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._left_bytes = os.fstat(stream.fileno()).st_size

    def read(self, size_bytes: int) -> bytes:
        self._take(size_bytes)
        return self._stream.read(size_bytes)

    def skip(self, size_bytes: int) -> None:
        self._take(size_bytes)
        self._stream.seek(size_bytes, os.SEEK_CUR)

    def number(self, kind: str) -> int | float | bool:
        [value] = struct.unpack(f"<{kind}", self.read(struct.calcsize(f"<{kind}")))
        number: int | float | bool = value
        return number

    def text(self) -> str | None:
        """The next text, or None if it is too long."""
        size_bytes = int(self.number("Q"))
        if size_bytes > _MAX_TEXT_BYTES:
            self.skip(size_bytes)
            return None
        return self.read(size_bytes).decode(errors="replace")

    def value(self, kind: int) -> int | float | bool | str | None:
        """The next value, or None if it is an array or too long."""
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self.text() if kind == _TEXT else self.number(_scalar(kind))

    def _skip_array(self) -> None:
        kind, count = int(self.number("I")), int(self.number("Q"))
        if kind == _TEXT:
            for _ in range(count):  # each takes 8 bytes or more, so a wrong count ends with the file
                self.skip(int(self.number("Q")))
        else:
            self.skip(count * struct.calcsize(f"<{_scalar(kind)}"))

    def _take(self, size_bytes: int) -> None:
        if size_bytes > self._left_bytes:
            raise ValueError(f"a value of {size_bytes:,} bytes ends after the end of the file")
        self._left_bytes -= size_bytes


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"values of type {kind} are unknown")
    return _SCALARS[kind]
