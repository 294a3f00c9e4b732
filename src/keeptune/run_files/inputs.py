"""Schema of inputs.json: the input files of a run that the data card does not list."""

from __future__ import annotations

from keeptune.run_files.card import SourceFile
from keeptune.run_files.part import Part


class Inputs(Part):
    """inputs.json."""

    files: list[SourceFile]
