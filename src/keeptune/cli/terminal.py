"""Prints results and messages. Texts of rows and models reach the terminal without control characters."""

from __future__ import annotations

import sys
from typing import TextIO

from keeptune.progress import printable


def show(text: object, file: TextIO | None = None) -> None:
    """Prints a text and a line end, by default to standard output."""
    print(printable(str(text)), file=file or sys.stdout)
