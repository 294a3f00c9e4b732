"""Data sets of the Hugging Face hub by name, through their own library, which also keeps them on disk. It is optional:
few need it, and it brings pandas along."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from keeptune.errors import DataError, RecipeError

_PREFIX = "hf:"
_BATCH_ROWS = 1_000


def is_named(name: str) -> bool:
    """Whether a name in data.files is that of a data set, and not of a file."""
    return name.startswith(_PREFIX)


def whole_name(name: str) -> str:
    """The name with its split, which is train where none is given."""
    return name if "#" in name else f"{name}#train"


def digest(name: str) -> tuple[str, int]:
    """The SHA-256 of a data set's rows in Arrow's own format, and how many bytes that is.

    The hub names data sets, not their versions; this tells two versions apart.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    for table in tables(name):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        sha256.update(content)
        size_bytes += content.size
    return sha256.hexdigest(), size_bytes


def tables(name: str) -> Iterator[Any]:
    """The rows of a data set hf:NAME@CONFIGURATION#SPLIT as Arrow tables; the last two may be left out.

    errors: RecipeError when the library is not installed; DataError when the data set or its split cannot be had.
    """
    try:
        import datasets
    except ImportError:
        raise RecipeError(
            f"{name}: Hugging Face data sets need the library datasets; pip install 'keeptune[hub]'"
        ) from None
    whole, _, split = name.removeprefix(_PREFIX).partition("#")
    path, _, configuration = whole.partition("@")
    try:
        rows = datasets.load_dataset(path, configuration or None, split=split)
        for table in rows.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            yield table.replace_schema_metadata(None)
    except Exception as error:  # the library raises errors of dozens of kinds, its own and those of others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: the data set cannot be loaded ({reason}); check its name, configuration and split "
            "(hf:NAME@CONFIGURATION#SPLIT), and the connection"
        ) from None
