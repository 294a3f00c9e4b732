"""The names of skills: those of keeptune, and those of other packages (entry points `keeptune.skills`)."""

from __future__ import annotations

from keeptune.grading.base import suggest
from keeptune.grading.plugins import plugin_names

ENTRY_POINTS = "keeptune.skills"
"""The group of entry points. Each one names a function from the section `data` of a recipe to a skill."""

SKILL_NAMES = ("arithmetic", "text", "labels", "extraction", "sql")
"""The skills of keeptune."""

GRADER_OF_SKILL = {"labels": "label", "extraction": "json", "sql": "sql"}
"""The grader that a skill requires."""


def check_skill_name(name: str) -> str:
    """Return the name of a skill.

    Raises:
        ValueError: no skill has this name.
    """
    known = [*SKILL_NAMES, *(plugin for plugin in plugin_names(ENTRY_POINTS) if plugin not in SKILL_NAMES)]
    if name not in known:
        raise ValueError(f"must be the name of a skill (got {name}); {suggest(name, known)}")
    return name
