"""Lookup of the skill that a recipe or an adapter names."""

from __future__ import annotations

from typing import cast

from keeptune.config.data import DataSection
from keeptune.config.skill_names import ENTRY_POINTS
from keeptune.errors import RecipeError
from keeptune.grading.base import Grader
from keeptune.grading.plugins import PluginError, load_plugin
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill
from keeptune.skills.graded_text import Extraction, GradedText, Labels, TextToSql
from keeptune.skills.text import Text

_GRADED: dict[str, type[GradedText]] = {one.name: one for one in (GradedText, Labels, Extraction, TextToSql)}


def skill_for_section(section: DataSection) -> Skill:
    """Return the skill that the data section of a recipe describes.

    Raises:
        RecipeError: the package of the skill cannot be loaded.
    """
    if section.skill == Arithmetic.name:
        return Arithmetic()
    if section.skill == Text.name and section.grader is None:
        return Text.from_section(section)
    if section.skill in _GRADED:
        return _GRADED[section.skill].from_section(section)
    try:
        return cast(Skill, load_plugin(ENTRY_POINTS, section.skill)(section))
    except PluginError as error:
        raise RecipeError(f"data.skill: {error}") from None


def skill_by_name(name: str, grader: Grader | None = None) -> Skill:
    """Return the skill with this name, as stored with an adapter.

    An adapter does not store the patterns of its recipe, so all problems of the skill `text` have one kind.
    """
    return skill_for_section(DataSection(skill=name, grader=grader, files=("any",)))
