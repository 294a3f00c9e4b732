"""Deprecated recipe keys: the old name of each renamed key, and the key that replaces it.

A recipe with an old key still loads. Each old key causes one `DeprecatedKeyWarning` that names its replacement. Recipes
that a run has stored cause none, because nobody edits them. An old key is removed after one minor version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

ALIASES = {
    "data.unseen": "data.exclude_files",
    "data.repeat_limit": "data.max_repeats",
    "data.places": "data.rounding.decimals",
    "data.digits": "data.rounding.significant_digits",
    "data.halves": "data.rounding.half",
    "data.writer": "data.teacher",
    "train.openings": "train.truncate_targets",
    "train.recompute": "train.activation_checkpointing",
    "train.replay": "retain.replay",
    "train.replay_share": "retain.replay_share",
    "train.kl_weight": "retain.kl_weight",
    "train.kl_on": "retain.kl_tokens",
    "retain.kl_on": "retain.kl_tokens",
    "select.kept_weight": "select.retention_weight",
}
"""Old key → current key. A key is written as its path in the recipe."""


class DeprecatedKeyWarning(FutureWarning):
    """A recipe uses the old name of a key."""


def with_current_keys(tree: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the recipe's mapping under the current keys, and the old keys that it used. The argument stays unchanged.

    Raises:
        ValueError: if one setting is given under two names.
    """
    deprecated: list[str] = []
    for old, new in ALIASES.items():
        if not _has(tree, old) or not _can_hold(tree, new):
            continue
        if _has(tree, new):
            names = [name for name in deprecated if ALIASES[name] == new] or [new]
            raise ValueError(f"{old} and {names[0]} set the same value; keep {new} and remove {old}")
        tree = _moved(tree, old.split("."), new.split("."))
        deprecated.append(old)
    return tree, tuple(deprecated)


def current_override(override: str) -> tuple[str, str | None]:
    """Returns an override `a.b=c` with its current key, and the old key if it used one."""
    key, separator, value = override.partition("=")
    for old, new in ALIASES.items():
        if key == old or key.startswith(f"{old}."):
            return f"{new}{key.removeprefix(old)}{separator}{value}", old
    return override, None


def warn(deprecated: Iterable[str], where: str) -> None:
    """Emits one warning per old key. `where` names the recipe."""
    for old in dict.fromkeys(deprecated):
        message = f"{where}: {old} is deprecated; use {ALIASES[old]}"
        warnings.warn(message, DeprecatedKeyWarning, stacklevel=4)


def _has(tree: dict[str, Any], key: str) -> bool:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _can_hold(tree: dict[str, Any], key: str) -> bool:
    """Whether each section on the way to the key is a mapping or absent."""
    *sections, _ = key.split(".")
    node: Any = tree
    for section in sections:
        node = node.get(section)
        if node is None:
            return True
        if not isinstance(node, dict):
            return False
    return True


def _moved(tree: dict[str, Any], old: list[str], new: list[str]) -> dict[str, Any]:
    """Returns a copy in which the value at `old` stands at `new`."""
    copied = dict(tree)
    node = copied
    for section in old[:-1]:
        node[section] = dict(node[section])
        node = node[section]
    value = node.pop(old[-1])
    node = copied
    for section in new[:-1]:
        node[section] = dict(node.get(section) or {})
        node = node[section]
    node[new[-1]] = value
    return copied
