"""Messages for the validation errors of a recipe: the key, what it must be, and the value found.

`train.learning_rate must be > 0 (got -1)`. The value is shown only where it cannot be a secret.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from keeptune.config.aliases import ALIASES

_LIMITS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", "≥"),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "≤"),
}
_TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "finite": "a finite number",
}
_PLAIN = ("int", "flo", "boo")
"""Error types of numbers and flags, by their first letters: the value found is shown even if it is a text."""

_UNION_MEMBER = re.compile(r"str|tuple\[.*\]")
_LONGEST_VALUE = 40


def messages(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """Returns one message per error. `schema` is the class whose validation failed."""
    return [_message(fault, schema) for fault in error.errors()]


def _message(fault: Any, schema: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in fault["loc"] if not _UNION_MEMBER.fullmatch(str(part)))
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: no such key; {_suggestion(fault['loc'], schema)}"
    if kind == "missing":
        return f"{key} is required"
    if kind in _LIMITS:
        name, relation = _LIMITS[kind]
        return f"{key} must be {relation} {context[name]:g}{_got(fault['input'])}"
    if kind == "literal_error":
        return _choice_message(key, fault)
    if kind == "value_error":
        return _own_message(key, fault["msg"].removeprefix("Value error, "))
    if kind in ("too_short", "string_too_short"):
        return f"{key} must not be empty"
    if kind == "string_pattern_mismatch":
        return f"{key} must match {context['pattern']}"
    if (expected := _TYPES.get(kind.split("_")[0])) and not kind.endswith(("_short", "_long")):
        return f"{key or 'the recipe'} must be {expected}{_got(fault['input'], shows_text=kind[:3] in _PLAIN)}"
    return f"{key}: {fault['msg']}"


def _choice_message(key: str, fault: Any) -> str:
    options = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
    value = fault["input"]
    near = difflib.get_close_matches(value, options, n=1, cutoff=0.5) if isinstance(value, str) else []
    advice = f"; did you mean {near[0]}?" if near else ""
    return f"{key} must be one of {', '.join(options)}{_got(value)}{advice}"


def _own_message(key: str, message: str) -> str:
    """Returns the message of a validator of ours. Those of a whole section name their keys themselves."""
    if message.startswith("must "):
        return f"{key} {message}"
    return f"{key}: {message}" if key and f"{key}." not in message else message


def _got(value: Any, shows_text: bool = True) -> str:
    if isinstance(value, str) and not shows_text:
        return ""
    if isinstance(value, (dict, list, tuple)):
        return f" (got a {'mapping' if isinstance(value, dict) else 'list'})"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f" (got {text if len(text) <= _LONGEST_VALUE else f'{text[:_LONGEST_VALUE]}…'})"


def _suggestion(place: tuple[Any, ...], schema: type[BaseModel]) -> str:
    key = str(place[-1])
    keys = _keys(place[:-1], schema)
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if renamed := difflib.get_close_matches(".".join(map(str, place)), ALIASES, n=1, cutoff=0.9):
        near = [ALIASES[renamed[0]]]
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(keys)}"


def _keys(place: tuple[Any, ...], schema: type[BaseModel]) -> list[str]:
    """Returns the keys of the section at `place`."""
    section = schema
    for part in place:
        if isinstance(part, int):  # an element in a list of sections
            continue
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)
