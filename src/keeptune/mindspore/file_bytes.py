"""Reads parts of a large file when they are used.

A memory map would do the same, but if the file becomes shorter meanwhile, the operating system ends the process
(SIGBUS). Here, such a file is an error.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import overload

from keeptune.errors import ModelError
from keeptune.files import open_regular

_BLOCK_BYTES = 1 << 18
"""Small reads come from a block that is kept, because a system call per byte would be slow."""


class FileBytes:
    """The bytes of a regular file, or a part of them. It is indexed like `bytes`, and holds at most one block.

    Raises:
        OSError: the file cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size
        self._block, self._block_start = b"", 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        """A byte, or the bytes of a slice of step 1.

        Raises:
            ModelError: the file became shorter than it was when it was opened.
        """
        if isinstance(place, int):
            return self._read(place, place + 1)[0]
        start, end, _ = place.indices(self._size)
        return self._read(start, max(start, end))

    def _read(self, start: int, end: int) -> bytes:
        if end - start > _BLOCK_BYTES:
            return self._read_exactly(start, end)
        if not self._block_start <= start <= end <= self._block_start + len(self._block):
            self._block_start = start
            self._block = self._read_exactly(start, min(self._size, start + _BLOCK_BYTES))
        return self._block[start - self._block_start : end - self._block_start]

    def _read_exactly(self, start: int, end: int) -> bytes:
        parts = []
        while start < end:  # one call returns at most 2 GiB
            parts.append(os.pread(self._descriptor, end - start, start))
            if not parts[-1]:
                raise ModelError(f"{self.path}: became shorter while it was read; copy it again")
            start += len(parts[-1])
        return b"".join(parts)


class FilePart:
    """A part of a file, which is read when it is indexed."""

    def __init__(self, content: FileBytes, start: int, end: int) -> None:
        self._content, self._start, self._end = content, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, place: slice) -> bytes:
        """The bytes of a slice of step 1."""
        start, end, _ = place.indices(len(self))
        return self._content[self._start + start : self._start + end]
