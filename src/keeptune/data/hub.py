"""Loads data sets from the Hugging Face hub with the optional library `datasets`, which also caches them on disk.

The library is optional because few recipes need it and it depends on pandas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from keeptune.errors import DataError, RecipeError

_PREFIX = "hf:"
_BATCH_ROWS = 1_000


def is_hub_name(name: str) -> bool:
    """Return whether a name in data.files denotes a hub data set instead of a file."""
    return name.startswith(_PREFIX)


def with_default_split(name: str) -> str:
    """Return the name with its split. The default split is `train`."""
    return name if "#" in name else f"{name}#train"


def content_digest(name: str) -> tuple[str, int]:
    """Return the SHA-256 of a data set's rows in Arrow's IPC format, and the size of that format in bytes.

    A name on the hub does not identify a version of the data set; the digest does.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    for table in load_tables(name):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        sha256.update(content)
        size_bytes += content.size
    return sha256.hexdigest(), size_bytes


def load_tables(name: str) -> Iterator[Any]:
    """Yield the rows of the data set hf:NAME@CONFIGURATION#SPLIT as Arrow tables. Configuration and split are optional.

    Raises:
        RecipeError: the library `datasets` is not installed.
        DataError: the data set or its split cannot be loaded.
    """
    try:
        import datasets
    except ImportError:
        raise RecipeError(
            f"{name}: Hugging Face data sets need the library datasets; pip install 'keeptune[hub]'"
        ) from None
    repository, _, split = name.removeprefix(_PREFIX).partition("#")
    path, _, configuration = repository.partition("@")
    try:
        rows = datasets.load_dataset(path, configuration or None, split=split)
        for table in rows.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            yield table.replace_schema_metadata(None)
    except Exception as error:  # the library raises dozens of error types, including those of its dependencies
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: the data set cannot be loaded ({reason}); check its name, configuration and split "
            "(hf:NAME@CONFIGURATION#SPLIT), and the network connection"
        ) from None
