"""Registry of the abilities in the retention suite, in the order in which reports show them."""

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
    continuation_wording,
    program_wording,
    question_wording,
)
from keeptune.evaluation.abilities.reading import Reading
from keeptune.evaluation.abilities.refusal import Refusal
from keeptune.evaluation.suite.loader import VERSION, Size
from keeptune.generation.record_cache import sha256_of

COMMONSENSE_EVERY: dict[Size, int] = {"quick": 4, "standard": 2, "full": 1}
CODE_EVERY: dict[Size, int] = {"quick": 3, "standard": 1, "full": 1}
"""The suite uses every n-th set, by its size. Weaker abilities need more questions for a decision."""

_ABILITIES: tuple[Ability, ...] = (
    MultipleChoice(
        "knowledge", ["knowledge-en-a.jsonl", "knowledge-en-b.jsonl", "knowledge-zh.jsonl"], question_wording
    ),
    MultipleChoice(
        "commonsense", ["commonsense-en.jsonl", "commonsense-zh.jsonl"], continuation_wording, COMMONSENSE_EVERY
    ),
    Grammar(),
    GeneralText(),
    Chat(),
    Instructions(),
    Reading("en"),
    Reading("zh"),
    Refusal(),
    MultipleChoice("code", ["code.jsonl"], program_wording, CODE_EVERY, is_in_quick_suite=False),
    LongContext(),
)

ABILITIES: dict[str, Ability] = {ability.name: ability for ability in _ABILITIES}
assert tuple(ABILITIES) == ABILITY_NAMES


def abilities_named(names: Iterable[str], size: Size = "standard") -> list[Ability]:
    """The abilities with these names, in the suite's order.

    The name `all` stands for all abilities. At size `quick`, it stands for those that small samples can decide.

    Raises:
        RecipeError: if a name is unknown; the message names the most similar one.
    """
    requested = tuple(names)
    if message := unknown_name(requested):
        raise RecipeError(message)
    abilities = [ABILITIES[name] for name in chosen_names(requested)]
    return [
        ability for ability in abilities if size != "quick" or ability.is_in_quick_suite or ability.name in requested
    ]


@cache
def suite_sha256(size: Size = "full") -> str:
    """The SHA-256 hash of the suite's version and of all final items of a size, generated items included."""
    items = [
        [ability.name, [ability.item_fields(item) for item in ability.items("final", size)]] for ability in _ABILITIES
    ]
    return sha256_of([VERSION, items])
