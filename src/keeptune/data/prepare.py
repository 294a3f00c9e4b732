"""The data stage: from files, or an invented corpus, to train, dev and test, and a card that accounts for every row."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa

from keeptune.data.rewrite import Example

SYNTH = "synth"
"""Stands for the file name of invented rows."""

_SCHEMA = pa.schema([
    pa.field(column.name, pa.int64() if column.type == "int" else pa.string(), nullable=False)
    for column in fields(Example)
])
