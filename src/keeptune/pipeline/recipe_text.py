"""A recipe as YAML text with comments."""

from __future__ import annotations

import json
from typing import Any


def render(settings: dict[str, Any], comments: dict[str, list[str]]) -> str:
    """Return the recipe as YAML, with the comments of each section before its keys."""
    lines = [f"# {_plain(line)}" for line in comments[""]]
    for section, values in settings.items():
        if not isinstance(values, dict):
            lines.append(f"{section}: {_scalar(values)}")
            continue
        lines.append(f"{section}:")
        lines += [f"  # {_plain(line)}" for line in comments.get(section, [])]
        lines += [f"  {key}: {_scalar(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text on one line without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def _scalar(value: Any) -> str:
    """Return a value in YAML's flow style, which JSON is a part of."""
    return json.dumps(value, ensure_ascii=False)
