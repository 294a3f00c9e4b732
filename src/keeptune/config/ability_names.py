"""Names of the abilities in the retention suite. Importing this module loads neither model code nor pydantic."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALL = "all"

ABILITY_NAMES = (
    "knowledge",
    "commonsense",
    "grammar",
    "general-text",
    "chat",
    "instructions",
    "reading-en",
    "reading-zh",
    "refusal",
    "code",
    "long-context",
)
"""In the order of the report."""


READING_ABILITY = "reading-en"
"""The ability that a run evaluates on `score.retained`."""

TASK_PREFIX = "task "
"""Prefix of the names of lm-evaluation-harness tasks among the abilities."""


def split_names(text: str) -> tuple[str, ...]:
    """Returns the names in a comma-separated text such as `knowledge, chat`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def unknown_name(names: Iterable[str]) -> str | None:
    """Returns a message about the first unknown name, with the most similar known one; None if all are known."""
    for name in names:
        if name not in (ALL, *ABILITY_NAMES):
            near = difflib.get_close_matches(name, ABILITY_NAMES, n=1, cutoff=0.4)
            advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(ABILITY_NAMES)}"
            return f"no ability is called {name!r}; {advice}"
    return None


def check_names(names: Iterable[str]) -> None:
    """Raises a ValueError if a name is unknown."""
    if message := unknown_name(names):
        raise ValueError(message)


def chosen_names(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the named abilities in the order of the suite; `all` stands for every ability."""
    selected = set(names)
    return tuple(name for name in ABILITY_NAMES if ALL in selected or name in selected)
