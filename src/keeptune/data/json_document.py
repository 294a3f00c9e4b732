"""Reads JSON files that are one document: a list of rows, or an object such as `{"version": "1", "data": [{…}, {…}]}`.

Values are decoded within a window of the text, because decoded values need up to 50 times the memory of their text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from keeptune.data.conversations import Number

# An object becomes the tuple of its (key, value) pairs. This needs no call into Python and preserves duplicate keys.
# A number keeps its text. This also avoids Python's limit on the number of digits.
DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=Number, parse_float=Number)

MAX_DOCUMENT_BYTES = 2 << 30
"""A larger document is not read, because it is held in memory. Compressed files are measured after decompression."""

WINDOW_CHARACTERS = 8 << 20
"""The longest value that is decoded. It is longer than `MAX_ROW_BYTES`, so a longer value is no row."""

_SPACE = re.compile(r"[ \t\r\n]+")
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING, _SCALAR = re.compile(_TEXT, re.DOTALL), re.compile(r'[^\s,"\[\]{}]*+')
_FLAT = re.compile(rf'(?:[^"\[\]{{}}]++|{_TEXT}|\{{[^"\[\]{{}}]*+\}}|\[[^"\[\]{{}}]*+\])*+', re.DOTALL)
"""Everything up to the next bracket that matters. The quantifiers are possessive, so it takes linear time."""


class ListOfObjects(NamedTuple):
    """A list under a key of an object: the key, and the position of the bracket."""

    key: str
    start: int


class TooLongValue:
    """Stands for a value longer than `WINDOW_CHARACTERS`, which was not decoded."""


class Item(NamedTuple):
    """An item of a list, and its start and end in the text."""

    start: int
    end: int
    value: object


class ItemError(ValueError):
    """An item of a list cannot be decoded; `number` counts from 1."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__(str(error))
        self.number = number


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


class ValueReader:
    """Decodes the values in a text, each in a window of the text. Positions should increase."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._start, self._window = 0, ""

    def read(self, position: int) -> tuple[object, int]:
        """Return the value at a position, and the position after it.

        Raises:
            ValueError, RecursionError: there is no value, or it is nested too deeply.
        """
        if not self._start <= position < self._start + len(self._window):
            self._move(position)
        while True:
            is_last = self._start + len(self._window) >= len(self.text)
            try:
                value, end = DECODER.raw_decode(self._window, position - self._start)
                if is_last or end < len(self._window) - 2:  # a number that ends later may go on: `1e+` was cut
                    return value, self._start + end
            except ValueError:
                if is_last:
                    break
            if self._start == position:
                break
            self._move(position)
        end = skip_value(self.text, position)
        if end - position > WINDOW_CHARACTERS:
            return TooLongValue(), end
        return DECODER.raw_decode(self.text, position)  # an error names the position in the text

    def _move(self, position: int) -> None:
        self._start, self._window = position, self.text[position : position + WINDOW_CHARACTERS]


def skip_value(text: str, position: int) -> int:
    """Return the position after a value, without decoding it. A value that does not end ends with the text."""
    if text.startswith('"', position):
        string = _STRING.match(text, position)
        return string.end() if string else len(text)
    if not text.startswith(("[", "{"), position):
        return _end_of_match(_SCALAR, text, position)
    depth = 0
    while position < len(text) and text[position] != '"':  # the quote of a text that does not end
        depth += 1 if text[position] in "[{" else -1
        position += 1
        if depth == 0:
            return position
        position = _end_of_match(_FLAT, text, position)
    return len(text)


def _end_of_match(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def list_items(reader: ValueReader, start: int) -> Iterator[Item]:
    """Yield the items of the list whose bracket is at `start`. After the last one, the bracket that closes it follows.

    Raises:
        ItemError: an item cannot be decoded, or what follows it is neither a comma nor the closing bracket.
    """
    text, number = reader.text, 0
    position = skip_space(text, start + 1)
    while number or not text.startswith("]", position):
        number += 1
        try:
            value, end = reader.read(position)
            separator = skip_space(text, end)
            is_last = text.startswith("]", separator)
            if not is_last and not text.startswith(",", separator):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, separator)
        except (ValueError, RecursionError) as error:
            raise ItemError(number, error) from None
        yield Item(position, end, value)
        if is_last:
            return
        position = skip_space(text, separator + 1)


def find_lists(text: str) -> list[ListOfObjects]:
    """Return the lists of objects in the object that is the whole text. It is empty if the text is no such object."""
    found, reader = [], ValueReader(text)
    position = skip_space(text, text.index("{") + 1)
    try:
        while text.startswith('"', position):
            key, end = DECODER.raw_decode(text, position)
            colon = skip_space(text, end)
            if text[colon] != ":":
                return []
            start = skip_space(text, colon + 1)
            is_list_of_objects, end = _read_member(reader, start)
            if is_list_of_objects:
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


def _read_member(reader: ValueReader, start: int) -> tuple[bool, int]:
    """Return whether the value at `start` is a list of objects and not empty, and the position after it."""
    text = reader.text
    if not (text.startswith("[", start) and text.startswith("{", skip_space(text, start + 1))):
        return False, reader.read(start)[1]
    end, are_objects = start + 1, []
    for item in list_items(reader, start):
        end = item.end
        are_objects.append(text.startswith("{", item.start))
    return all(are_objects), skip_space(text, end) + 1
