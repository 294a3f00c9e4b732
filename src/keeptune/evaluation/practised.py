"""Finds the abilities that training practised, from the recipe and the texts it names.

A replay source practises every ability with the same task format: a gate on reading proves little about a model that
was trained on reading questions. Training texts that share a 13-gram with an item practise the item's ability, too. An
adapter that continues another one inherits what that one practised. Practised abilities are reported and never counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.config.retain import WRITTEN
from keeptune.errors import KeeptuneError
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.overlap import NgramIndex, texts_in
from keeptune.generation.self_answers import prompt_pool
from keeptune.grading.chinese import HAN_CHARACTER
from keeptune.grading.squad import ReadingItem
from keeptune.run_files.directory import RunDirectory
from keeptune.training.replay import ReplaySource, load_replay_source

Practised = dict[str, str]
"""The reason, by ability. Runs store it and `verify` compares it, so the wording of reasons must not change."""

_LETTER = re.compile(r"[^\W\d_]")
_QUESTION_AND_ANSWER = re.compile(
    r"(?im)^\s*(?:question|q|问题|问)\s*[:：].*\n(?:.*\n)*?\s*(?:answer|a|答案|答)\s*[:：]"
)
_TURNS = re.compile(
    r"(?im)^\s*(?:<\|im_start\|>|<\|start_header_id\|>|\[INST\]|(?:user|human|assistant|用户|助手)\s*[:：])"
)
_CODE = re.compile(
    r"(?m)^\s*(?:(?:async )?def \w+\(.*\).*:|class \w+(?:\(.*\))?:|print\("
    r"|import [\w.]+(?: as \w+)?$|from [\w.]+ import )"
)

MAX_ANCESTORS = 50
"""Maximum number of adapters in a chain of continuations that are followed."""


def practised_by(recipe: Recipe) -> Practised:
    """The abilities that the recipe's replay practises, and those that its start adapter practised."""
    reasons: Practised = {}
    for _ in range(MAX_ANCESTORS):
        for source in recipe.retain.replay if recipe.retain.replay_share else ():
            for ability, reason in practised_by_source(source).items():
                reasons.setdefault(ability, reason)
        start_recipe = recipe_beside(recipe.adapter.start)
        if start_recipe is None:
            return reasons
        recipe = start_recipe
    return reasons


def practised_by_source(source: str) -> Practised:
    """The abilities that one replay source practises.

    If the file cannot be read here, its name decides: .json counts as English reading questions, all others as prose.
    """
    if source in WRITTEN:
        reasons = dict.fromkeys(("chat", "instructions"), "replay of the base's own answers has its task")
        texts = (message.content for prompt in prompt_pool() for message in prompt.messages)
        return reasons | practised_by_texts(texts, "the pool of prompts for replay")
    try:
        items = load_replay_source(source)
    except KeeptuneError:
        # The file of an ancestor may be deleted. Its name still says what it was.
        return {"reading-en" if source.endswith(".json") else "general-text": f"replay of {Path(source).name}"}
    reasons = {ability: f"replay of {Path(source).name} has its task" for ability in tasks_of(items)}
    return reasons | practised_by_texts(_texts(items), f"replay of {Path(source).name}")


def tasks_of(items: ReplaySource) -> set[str]:
    """The abilities whose task format the items have."""
    abilities: set[str] = set()
    for item in items:
        if isinstance(item, ReadingItem):
            abilities.add("reading-zh" if _is_chinese(item.context) else "reading-en")
        elif _TURNS.search(item):
            abilities |= {"chat", "instructions"}
        elif _QUESTION_AND_ANSWER.search(item):
            abilities.add("knowledge")
        elif _CODE.search(item):
            abilities.add("code")
        else:
            abilities.add("general-text")
    return abilities


def practised_by_texts(texts: Iterable[str], name: str) -> Practised:
    """The abilities with items that share a 13-gram with the texts. `name` is the name of the texts in the reason."""
    counts: dict[str, int] = {}
    for item in suite_index().overlapping(texts):
        ability = item.partition(" ")[0]
        counts[ability] = counts.get(ability, 0) + 1
    return {ability: f"{name} shares 13-grams with {count} of its items" for ability, count in counts.items()}


@cache
def suite_index() -> NgramIndex:
    """The 13-grams of all items of the suite, by "ability id".

    The filler of long contexts is left out, because it consists of general-text items.
    """
    index = NgramIndex()
    for ability in ABILITIES.values():
        for item in ability.items("final", "full"):
            fields: Mapping[str, object] = ability.item_fields(item)
            # A reading prompt contains worked passages, which are no items. Only the passage of the item counts.
            passage = getattr(item, "context", "")
            for text in texts_in([passage, *(value for key, value in fields.items() if key != "prompt")]):
                index.add(f"{ability.name} {fields['id']}", text)
    return index


def _texts(items: ReplaySource) -> Iterable[str]:
    """All texts of the items."""
    for item in items:
        if isinstance(item, ReadingItem):
            yield item.context
            yield from (item.question, *item.answers)
        else:
            yield item


def _is_chinese(text: str) -> bool:
    return 2 * len(HAN_CHARACTER.findall(text)) > len(_LETTER.findall(text))


def recipe_beside(start: str | None) -> Recipe | None:
    """The recipe of the adapter in folder `start`: in the folder, or in the run directory above it.

    None if there is no recipe or it cannot be read.
    """
    if start is None:
        return None
    for directory in (RunDirectory(Path(start)), RunDirectory(Path(start).parent)):
        if directory.is_run:
            try:
                return recipes.load_stored(directory.recipe)
            except KeeptuneError:
                return None
    return None
