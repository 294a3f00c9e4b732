"""The values of a row: their texts as problem and solution, and their description in error messages.

A value is a `str`, a `bool`, a `Number`, None, a list, or an object as the tuple of its (key, value) pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal

from keeptune.data.conversations import Number
from keeptune.data.row import RowError, require_text

_MAX_LISTED, _MAX_NAME_CHARACTERS = 12, 60


def require_content(name: str, value: object) -> str:
    """Return the text of a turn or of an answer; numbers and booleans are texts only for the name `solution`.

    Raises:
        RowError: the value is of another type, or `require_text` rejects it.
    """
    if name == "solution" and isinstance(value, bool):
        return "true" if value else "false"
    if name == "solution" and isinstance(value, Number):
        return value.text
    if name == "solution" and isinstance(value, tuple) and value and not _is_answer_span(value):
        return _json_text(value)
    if not isinstance(value, str):
        supported = "a text, a number or a boolean" if name == "solution" else "a text"
        raise RowError(f"{name} is not a text: found {describe(value)}; supported is {supported}{_advice(value)}")
    return require_text(name, value)


def from_python(value: object) -> object:
    """Return a value of a table as a value of a row. Missing keys of an object are None in tables and are removed."""
    match value:
        case bool() | str() | None:
            return value
        case float() if not math.isfinite(value):
            return value
        case int() | float() | Decimal():
            return Number(str(value))
        case list() | tuple():
            return [from_python(item) for item in value]
        case date() | time():
            return value.isoformat(*([" "] if isinstance(value, datetime) else []))
        case dict():
            return tuple((key, from_python(item)) for key, item in value.items() if item is not None)
    return value


def list_names(names: Iterable[str]) -> str:
    """Return the names in quotes, separated by commas. Long lists and names are cut."""
    listed = list(names)
    shown = ", ".join(repr(name[:_MAX_NAME_CHARACTERS]) for name in listed[:_MAX_LISTED])
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return shown + more if listed else "none"


def describe(value: object) -> str:
    """Return what a value is, for error messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Number():
            return "a number"
        case str():
            return "a text"
        case []:
            return "an empty list"
        case list():
            parts = {str(dict(item).get("type")): None for item in value if isinstance(item, tuple)}
            return f"a list with parts of type {list_names(parts)}" if parts else "a list"
        case tuple():
            return "an object"
        case float():
            return f"{value} (no number)"
        case bytes():
            return "bytes (of a column of the type binary)"
    return f"a value of type {type(value).__name__}"


def _json_text(value: object) -> str:
    """Return a value as JSON. Numbers keep their spelling."""
    match value:
        case Number():
            return value.text
        case tuple():
            fields = [f"{json.dumps(key, ensure_ascii=False)}: {_json_text(item)}" for key, item in value]
            return f"{{{', '.join(fields)}}}"
        case list():
            return f"[{', '.join(map(_json_text, value))}]"
        case bool() | str() | None:
            return json.dumps(value, ensure_ascii=False)
    raise RowError(f"solution holds {describe(value)}; use texts, numbers, booleans, lists and objects")


def _is_answer_span(value: object) -> bool:
    """Whether an object holds the accepted answers of a question as texts, as in SQuAD."""
    return isinstance(value, tuple) and isinstance(dict(value).get("text"), list)


def _advice(value: object) -> str:
    """Return what to do with a list where a text is needed."""
    if _is_answer_span(value):
        return ". Name one answer in data.columns, such as NAME.text.0"
    if not isinstance(value, list) or not value:
        return ""
    place = "NAME.0.text" if isinstance(value[0], tuple) and "text" in dict(value[0]) else "NAME.0"
    return f". Name one item in data.columns, such as {place}, or write the list as a text"
