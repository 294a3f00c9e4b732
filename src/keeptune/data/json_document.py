"""Finds the list of rows in a JSON file that is one object, such as `{"version": "1", "data": [{…}, {…}]}`."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from keeptune.data.conversations import Number

# An object becomes the tuple of its (key, value) pairs. This needs no call into Python and preserves duplicate keys.
# A number keeps its text. This also avoids Python's limit on the number of digits.
DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=Number, parse_float=Number)

_SPACE = re.compile(r"[ \t\r\n]+")


class ListOfObjects(NamedTuple):
    """A list under a key of an object: the key, and the position of the bracket."""

    key: str
    start: int


def skip_space(text: str, position: int) -> int:
    """Return the position of the next character that is not white space."""
    space = _SPACE.match(text, position)
    return space.end() if space else position


def is_partial_object(line: str) -> bool:
    """Return whether a line is the start of a JSON object that continues on the next line."""
    line = line.strip()
    try:
        DECODER.decode(line)
    except json.JSONDecodeError as error:
        return line.startswith("{") and error.pos >= len(line)
    except (ValueError, RecursionError):
        pass
    return False


def find_lists(text: str) -> list[ListOfObjects]:
    """Return the lists of objects in the object that is the whole text. It is empty if the text is no such object."""
    found = []
    position = skip_space(text, text.index("{") + 1)
    try:
        while text.startswith('"', position):
            key, end = DECODER.raw_decode(text, position)
            colon = skip_space(text, end)
            if text[colon] != ":":
                return []
            start = skip_space(text, colon + 1)
            value, end = DECODER.raw_decode(text, start)
            if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
                found.append(ListOfObjects(key, start))
            separator = skip_space(text, end)
            if text.startswith("}", separator):
                return found if not text[separator + 1 :].strip() else []
            if text[separator] != ",":
                return []
            position = skip_space(text, separator + 1)
    except (ValueError, RecursionError, IndexError):
        pass
    return []
