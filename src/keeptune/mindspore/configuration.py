"""Reads a MindFormers YAML configuration into values under dotted names.

The file is read within the bounds of config/yaml_reader.py; the number of values and the depth have lower limits here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.config.yaml_reader import YamlError, parse_yaml, read_bounded
from keeptune.errors import RecipeError

_MAX_VALUES = 5_000
_MAX_DEPTH, _MAX_NAME_CHARACTERS = 20, 1_000


@dataclass(frozen=True, slots=True)
class Configuration:
    """The values of one file by dotted name, e.g. `model.model_config.seq_length`. List items are numbered."""

    path: Path
    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """The value under a name, or None. In `callbacks.*.save_checkpoint_steps`, `*` matches any list item."""
        if ".*." not in name:
            return self.values.get(name)
        match = self.find_name(name)
        return self.values[match] if match else None

    def find_name(self, pattern: str) -> str | None:
        """The first name that matches a pattern with one `*`, or None."""
        prefix, suffix = pattern.split(".*.")
        return next(
            (name for name in self.values if name.startswith(f"{prefix}.") and name.endswith(f".{suffix}")), None
        )

    def number(self, name: str, default: float | None = None) -> float | None:
        """The finite number under a name. A number that YAML read as a string (`1e-5`) is accepted.

        Raises:
            RecipeError: naming file and key when the value is not a finite number.
        """
        value = self.get(name)
        if value is None:
            return default
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.invalid_value(name, value, "a number")
        return number

    def positive_integer(self, name: str, default: int | None = None) -> int | None:
        """The integer > 0 under a name.

        Raises:
            RecipeError: as in `number`.
        """
        number = self.number(name, default)
        if number is None:
            return None
        if number < 1 or number != int(number):
            raise self.invalid_value(name, self.get(name), "an integer > 0")
        return int(number)

    def string(self, name: str) -> str | None:
        """The string under a name.

        Raises:
            RecipeError: as in `number`.
        """
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.invalid_value(name, value, "a string")
        return value

    def invalid_value(self, name: str, value: Any, expected: str) -> RecipeError:
        """The error for a value of the wrong type or range."""
        return RecipeError(f"{self.path}: {name} must be {expected} (got {format_value(value)})")

    @property
    def pet_config(self) -> str | None:
        """The dotted name of the `pet_config` section, which holds the LoRA settings, or None."""
        sections = (name.rsplit(".", 1)[0] for name in self.values)
        return next((name for name in sections if name.rsplit(".", 1)[-1] == "pet_config"), None)


def load_configuration(path: Path) -> Configuration:
    """Reads a MindFormers YAML file.

    Raises:
        RecipeError: when the file cannot be read, or is not such a configuration.
    """
    try:
        tree = parse_yaml(read_bounded(path), unique_keys=False)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give a MindFormers YAML file") from None
    except YamlError as error:
        raise RecipeError(f"{path}: {error}; give a MindFormers YAML file") from None
    if not isinstance(tree, dict) or not tree:
        raise RecipeError(f"{path}: a MindFormers configuration is a mapping (model, runner_config, optimizer, …)")
    values: dict[str, Any] = {}
    try:
        for name, value in _leaves(tree, "", 0):
            values[name] = value
            if len(values) > _MAX_VALUES:
                raise ValueError(f"more than {_MAX_VALUES:,} values")
    except ValueError as error:
        raise RecipeError(f"{path}: not a configuration ({error}); give a MindFormers YAML file") from None
    return Configuration(path, values)


def format_value(value: Any) -> str:
    """A value on one line of at most 80 characters, for a message or a comment."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _leaves(tree: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) for each value that is neither a mapping nor a list with nested values.

    Raises:
        ValueError: when a value is nested too deeply or has too long a name.
    """
    if depth > _MAX_DEPTH or len(name) > _MAX_NAME_CHARACTERS:
        raise ValueError(
            f"{format_value(name)} is nested deeper than {_MAX_DEPTH} levels or its name has more than "
            f"{_MAX_NAME_CHARACTERS:,} characters"
        )
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(tree, list | tuple) and any(isinstance(item, dict | list | tuple) for item in tree):
        for number, item in enumerate(tree):
            yield from _leaves(item, f"{name}.{number}", depth + 1)
    else:
        yield name, tree
