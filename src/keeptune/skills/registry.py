"""Which skill a recipe or an adapter is about."""

from __future__ import annotations

from keeptune.config.data import DataSection
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill
from keeptune.skills.text import Text


def skill_of(section: DataSection) -> Skill:
    """The skill that a recipe teaches."""
    return Text.of(section) if section.skill == "text" else Arithmetic()


def skill_named(name: str) -> Skill:
    """The skill that an adapter was taught. Without its recipe, all problems of skill `text` are of one kind."""
    return Text({}) if name == Text.name else Arithmetic()
