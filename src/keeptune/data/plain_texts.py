"""Plain texts for loss measurements and replay: the embedded ones, or files with empty lines between texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from keeptune.errors import DataError

GENERAL = "general"
"""What such texts are called in records."""

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")


class Text(NamedTuple):
    """A text to predict, token by token."""

    id: str
    what: str
    text: str


def general_texts(sources: Sequence[str], limit: int = 0) -> list[Text]:
    """The texts of plain text files, or of the `embedded` one, which empty lines part; the first `limit`, or all.

    errors: DataError when a file cannot be read or holds no text.
    """
    texts: list[Text] = []
    for place, source in enumerate(sources, start=1):
        parts = [part.strip("\n") for part in _BLANK_LINES.split(_read(source)) if part.strip()]
        if not parts:
            raise DataError(f"{source}: holds no text; give a file of plain text, its parts separated by empty lines")
        texts += [Text(f"{GENERAL}-{place}-{number}", GENERAL, part) for number, part in enumerate(parts, start=1)]
    return texts[:limit] if limit else texts


def _read(source: str) -> str:
    if source == "embedded":
        return (resources.files("keeptune.data") / "general_texts.txt").read_text(encoding="utf-8")
    try:
        return Path(source).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); give a file of plain text") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
