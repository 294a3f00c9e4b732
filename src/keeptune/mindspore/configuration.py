"""A MindFormers configuration as its values under dotted names, whatever the file holds.

The files are read with yaml.safe_load and bounded in size, depth and number of values: YAML's aliases can make a tree
of a billion values out of a kilobyte, or one that contains itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from keeptune.errors import RecipeError

_LARGEST_BYTES = 1_000_000
_MOST_VALUES = 5_000
_DEEPEST, _LONGEST_NAME = 20, 1_000


@dataclass(frozen=True, slots=True)
class Configuration:
    """The values of one file by name, such as `model.model_config.pet_config.lora_rank`; items of lists by number."""

    path: Path
    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """The value of that name, or None. `callbacks.*.save_checkpoint_steps` is the first item's that has one."""
        if ".*." not in name:
            return self.values.get(name)
        found = self.named(name)
        return self.values[found] if found else None

    def named(self, pattern: str) -> str | None:
        """The first whole name that a name with `*` for a list's item stands for."""
        before, after = pattern.split(".*.")
        ends = (before + ".", "." + after)
        return next((name for name in self.values if name.startswith(ends[0]) and name.endswith(ends[1])), None)

    def number(self, name: str, default: float | None = None) -> float | None:
        """The finite number of that name; a number that YAML took for a text is one, too.

        errors: RecipeError naming file and key when it is anything else.
        """
        value = self.get(name)
        if value is None:
            return default
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise self.refused(name, value, "a number")
        return found

    def whole(self, name: str, default: int | None = None) -> int | None:
        """The integer above zero of that name. errors: RecipeError as `number`."""
        found = self.number(name, default)
        if found is None:
            return None
        if found < 1 or found != int(found):
            raise self.refused(name, self.get(name), "an integer above 0")
        return int(found)

    def text(self, name: str) -> str | None:
        """The text of that name. errors: RecipeError as `number`."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.refused(name, value, "a text")
        return value

    def refused(self, name: str, value: Any, wanted: str) -> RecipeError:
        """The error for a value that is of the wrong sort."""
        return RecipeError(f"{self.path}: {name} is {shown(value)}, and it has to be {wanted}; correct it there")

    @property
    def pet_config(self) -> str | None:
        """The name under which LoRA's settings stand, or None."""
        names = (name.rsplit(".", 1)[0] for name in self.values)
        return next((name for name in names if name.rsplit(".", 1)[-1] == "pet_config"), None)


def read(path: Path) -> Configuration:
    """The configuration in a YAML file. errors: RecipeError saying why it is none."""
    try:
        raw = path.read_bytes()
        if len(raw) > _LARGEST_BYTES:
            raise RecipeError(
                f"{path}: it has {len(raw):,} bytes, and no configuration has; give a MindFormers YAML file"
            )
        tree = yaml.safe_load(raw.decode("utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give a MindFormers YAML file") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    # PyYAML lets errors of its converters through: !!int '' is an IndexError, !!bool x a KeyError.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise RecipeError(f"{path}: not valid YAML ({type(error).__name__}: {error})") from None
    if not isinstance(tree, dict) or not tree:
        raise RecipeError(f"{path}: a MindFormers configuration is a mapping (model, runner_config, optimizer, …)")
    values: dict[str, Any] = {}
    try:
        for name, value in _leaves(tree, "", 0):
            values[name] = value
            if len(values) > _MOST_VALUES:
                raise ValueError(f"more than {_MOST_VALUES:,} values")
    except ValueError as error:
        raise RecipeError(f"{path}: {error}, so it is no configuration; give a MindFormers YAML file") from None
    return Configuration(path, values)


def shown(value: Any) -> str:
    """A value in one line of a message or comment."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _leaves(tree: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """What is no mapping and no list of mappings, under its name. errors: ValueError when it is out of all bounds."""
    if depth > _DEEPEST or len(name) > _LONGEST_NAME:
        raise ValueError(f"a value at {shown(name)} is deeper than {_DEEPEST} levels or has a longer name")
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(tree, list | tuple) and any(isinstance(item, dict | list | tuple) for item in tree):
        for number, item in enumerate(tree):
            yield from _leaves(item, f"{name}.{number}", depth + 1)
    else:
        yield name, tree
