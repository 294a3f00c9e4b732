"""Plain texts for loss measurements and replay: the embedded ones, or files in which blank lines separate texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from keeptune.errors import DataError
from keeptune.files import read_regular_bytes

GENERAL = "general"
"""The value of `what` for these texts in stored records."""

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")


class PlainText(NamedTuple):
    """A text whose tokens are predicted. `what` is its category in stored records."""

    id: str
    what: str
    text: str


def load_general_texts(sources: Sequence[str], limit: int = 0) -> list[PlainText]:
    """Return the texts of plain text files, or of the `embedded` one. With a `limit` above 0, return the first ones.

    Raises:
        DataError: a file cannot be read or contains no text.
    """
    texts: list[PlainText] = []
    for source_number, source in enumerate(sources, start=1):
        parts = [part.strip("\n") for part in _BLANK_LINES.split(_read(source)) if part.strip()]
        if not parts:
            raise DataError(f"{source}: contains no text; provide plain text with blank lines between the texts")
        texts += [
            PlainText(f"{GENERAL}-{source_number}-{number}", GENERAL, part) for number, part in enumerate(parts, 1)
        ]
    return texts[:limit] if limit else texts


def _read(source: str) -> str:
    if source == "embedded":
        return (resources.files("keeptune.data") / "general_texts.txt").read_text(encoding="utf-8")
    try:
        return read_regular_bytes(Path(source)).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); provide a plain text file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
