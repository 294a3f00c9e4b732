"""Lookup of corpora by name: those of the example skills, and those that skills of other packages generate."""

from __future__ import annotations

import random

from keeptune.config.skill_names import ENTRY_POINTS
from keeptune.errors import RecipeError
from keeptune.grading.base import suggest
from keeptune.grading.plugins import plugin_names
from keeptune.skills.corpora.corpus import Corpus, Row
from keeptune.skills.corpora.customer_mail import CUSTOMER_MAIL
from keeptune.skills.corpora.order_texts import ORDER_TEXTS
from keeptune.skills.corpora.phrases import SplitName
from keeptune.skills.corpora.table_questions import TABLE_QUESTIONS
from keeptune.skills.registry import skill_by_name

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (CUSTOMER_MAIL, ORDER_TEXTS, TABLE_QUESTIONS)}
"""The corpora of the example skills."""


def find_corpus(name: str) -> Corpus:
    """Return the corpus with this name. The name of another package's skill stands for the rows that it generates.

    Raises:
        RecipeError: no corpus has this name, or the package of the skill cannot be loaded.
    """
    plugins = plugin_names(ENTRY_POINTS)
    if name in CORPORA:
        return CORPORA[name]
    if name not in plugins:
        raise RecipeError(f"--preset: unknown corpus {name!r}; {suggest(name, ['contest', *CORPORA, *plugins])}")
    return _generated_by_skill(name)


def _generated_by_skill(name: str) -> Corpus:
    """Return the corpus of a skill, with all of its kinds in equal shares. Both splits have the same kinds of rows."""
    skill = skill_by_name(name)

    def sample(generator: random.Random, split: SplitName) -> Row:  # noqa: ARG001
        problem, solution = skill.generate(generator.choice(skill.kinds), generator)
        return {"problem": problem, "solution": solution}

    return Corpus(name, {"skill": name}, sample)
