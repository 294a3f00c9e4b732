"""The names of the abilities, for recipes and messages: importing them loads no model code."""

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
"""In the order in which reports show them."""


READING_ABILITY = "reading-en"
"""The ability that a run measures on `score.retained`."""

TASK_PREFIX = "task "
"""The prefix of abilities that lm-evaluation-harness measured."""


def split_names(written: str) -> tuple[str, ...]:
    """The names in a text such as `knowledge, chat`."""
    return tuple(name.strip() for name in written.split(",") if name.strip())


def unknown_name(names: Iterable[str]) -> str | None:
    """What is wrong with the first name that is no ability, with the nearest that is one; None where all are."""
    for name in names:
        if name not in (ALL, *ABILITY_NAMES):
            near = difflib.get_close_matches(name, ABILITY_NAMES, n=1, cutoff=0.4)
            advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(ABILITY_NAMES)}"
            return f"no ability is called {name!r}; {advice}"
    return None


def chosen_names(names: Iterable[str]) -> tuple[str, ...]:
    """The abilities of these names, in the suite's order; `all` stands for every one."""
    wanted = set(names)
    return tuple(name for name in ABILITY_NAMES if ALL in wanted or name in wanted)
