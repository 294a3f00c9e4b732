"""Reads YAML within bounds: size, nesting, number of values, merge keys, and length of numbers.

With YAML aliases or merge keys, one kilobyte can describe a tree of a billion values, or a tree that contains itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from keeptune.files import open_regular

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 100_000
MAX_MERGED_KEYS = 1_000
MAX_NUMBER_CHARACTERS = 1_000

_MERGE_TAG = "tag:yaml.org,2002:merge"

# PyYAML does not wrap all errors of its converters: !!int '' raises IndexError, !!bool x raises KeyError.
_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class YamlError(ValueError):
    """A text is not YAML, or exceeds a bound. `line` is the line in question, counted from 1, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """A SafeLoader with bounds. Its methods replace those of PyYAML with the same name."""

    unique_keys = False

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._merged_keys = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", self.line + 1)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if self.unique_keys else ():
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                continue
            if first := lines.get((key.tag, key.value)):
                raise YamlError(f"the key {key.value!r} is set again (first in line {first}); keep one of them", line)
            lines[key.tag, key.value] = line
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        """Replaces merge keys (`<<`) by the keys of the mappings that they name, which the mapping's own keys override.

        Of several merged mappings, the first one has precedence.
        """
        merged: list[tuple[Node, Node]] = []
        sources = [value for key, value in node.value if key.tag == _MERGE_TAG]
        node.value = [(key, value) for key, value in node.value if key.tag != _MERGE_TAG]
        for source in sources:
            for mapping in source.value if isinstance(source, SequenceNode) else [source]:
                line = mapping.start_mark.line + 1
                if not isinstance(mapping, MappingNode):
                    raise YamlError("a merge key (<<) needs a mapping or a list of mappings", line)
                self.flatten_mapping(mapping)
                self._merged_keys += len(mapping.value) + 1
                if self._merged_keys > MAX_MERGED_KEYS:
                    raise YamlError(f"merge keys (<<) add more than {MAX_MERGED_KEYS:,} keys", line)
                merged = [*mapping.value, *merged]
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:value":
                key.tag = "tag:yaml.org,2002:str"
        node.value = merged + node.value

    def construct_scalar(self, node: Any) -> Any:
        is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if is_number and len(node.value) > MAX_NUMBER_CHARACTERS:
            raise YamlError(f"a number of more than {MAX_NUMBER_CHARACTERS:,} characters", node.start_mark.line + 1)
        return super().construct_scalar(node)


class _UniqueKeysLoader(_Loader):
    unique_keys = True


def read_bounded(path: Path) -> str:
    """Returns the text of a regular UTF-8 file of at most `MAX_BYTES` bytes.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        YamlError: the file is too large or not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"larger than {MAX_BYTES:,} bytes, which is too large for settings")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise YamlError("not UTF-8 text; save it as UTF-8") from None


def parse_yaml(text: str, unique_keys: bool = True) -> Any:
    """Returns the value of a YAML text. By default, a key that stands twice in a mapping is an error.

    Raises:
        YamlError: the text is not YAML, or exceeds a bound.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"larger than {MAX_BYTES:,} bytes, which is too large for settings")
    try:
        tree = yaml.load(text, _UniqueKeysLoader if unique_keys else _Loader)
    except YamlError:
        raise
    except _ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        reason = error if isinstance(error, yaml.YAMLError) else f"{type(error).__name__}: {error}"
        raise YamlError(f"not valid YAML: {reason}", mark.line + 1 if mark else None) from None
    _require_bounded(tree)
    return tree


def _require_bounded(tree: Any) -> None:
    """Raises YamlError if the tree with all its aliases written out is too large or too deep."""
    values, pending = 0, [(tree, 0)]
    while pending:
        value, depth = pending.pop()
        values += 1
        if depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels")
        if values + len(pending) > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES:,} values, aliases (*) written out")
        if isinstance(value, dict):
            pending += ((item, depth + 1) for item in value.values())
        elif isinstance(value, (list, tuple, set)):
            pending += ((item, depth + 1) for item in value)
