"""All abilities of the retention suite, by name, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from keeptune.config.ability_names import ABILITY_NAMES, chosen_names, unknown_name
from keeptune.errors import RecipeError
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.chat import Chat
from keeptune.evaluation.abilities.general_text import GeneralText
from keeptune.evaluation.abilities.grammar import Grammar
from keeptune.evaluation.abilities.instructions import Instructions
from keeptune.evaluation.abilities.long_context import LongContext
from keeptune.evaluation.abilities.multiple_choice import (
    MultipleChoice,
    continuation_words,
    program_words,
    question_words,
)
from keeptune.evaluation.abilities.reading import Reading
from keeptune.evaluation.abilities.refusal import Refusal
from keeptune.evaluation.suite.loader import VERSION, Size
from keeptune.generation.record_cache import sha256_of

COMMONSENSE_EVERY: dict[Size, int] = {"quick": 4, "standard": 2, "full": 1}
CODE_EVERY: dict[Size, int] = {"quick": 3, "standard": 1, "full": 1}
"""Of the sets: the less a base knows, the more questions prove that it kept it."""

_ABILITIES: tuple[Ability, ...] = (
    MultipleChoice("knowledge", ["knowledge-en-a.jsonl", "knowledge-en-b.jsonl", "knowledge-zh.jsonl"], question_words),
    MultipleChoice(
        "commonsense", ["commonsense-en.jsonl", "commonsense-zh.jsonl"], continuation_words, COMMONSENSE_EVERY
    ),
    Grammar(),
    GeneralText(),
    Chat(),
    Instructions(),
    Reading("en"),
    Reading("zh"),
    Refusal(),
    MultipleChoice("code", ["code.jsonl"], program_words, CODE_EVERY, in_quick=False),
    LongContext(),
)

ABILITIES: dict[str, Ability] = {ability.name: ability for ability in _ABILITIES}
assert tuple(ABILITIES) == ABILITY_NAMES


def abilities_named(names: Iterable[str], size: Size = "standard") -> list[Ability]:
    """The abilities of these names, in the suite's order; `all` stands for every one, of the quick suite for those that
    small samples can decide.

    Raises:
        RecipeError: naming the first unknown one and the nearest that exists.
    """
    wanted = tuple(names)
    if fault := unknown_name(wanted):
        raise RecipeError(fault)
    chosen = [ABILITIES[name] for name in chosen_names(wanted)]
    return [own for own in chosen if size != "quick" or own.in_quick or own.name in wanted]


@cache
def suite_sha256(size: Size = "full") -> str:
    """The hash of all final items of a size, generated ones included, and of the suite's version."""
    stated = [[own.name, [own.stated(item) for item in own.items("final", size)]] for own in _ABILITIES]
    return sha256_of([VERSION, stated])
