"""Which abilities training practised: found from the recipe and its files, never declared by hand.

A replay source practises the ability whose task it has, whatever its texts are: a gate on reading says little about a
model that was trained on reading questions. Training texts that share a 13-gram with items of an ability practise it
too. An adapter that goes on from another inherits what that one practised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.config.retain import SELF
from keeptune.errors import KeeptuneError
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.overlap import NgramIndex, texts_in
from keeptune.generation import self_answers as own_answers
from keeptune.grading.chinese import HAN_CHARACTER
from keeptune.grading.squad import ReadingItem
from keeptune.training.replay import ReplaySource, load_replay_source

Practised = dict[str, str]
"""The reason, by ability."""

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

ANCESTORS = 50
"""Adapters that are followed back from one that went on from another."""


def practised_by(recipe: Recipe) -> Practised:
    """What the recipe's replay practises, and what the adapter practised that it goes on from."""
    found: Practised = {}
    for _ in range(ANCESTORS):
        for source in recipe.retain.replay if recipe.retain.replay_share else ():
            for ability, why in practised_by_source(source).items():
                found.setdefault(ability, why)
        stored = recipe_beside(recipe.adapter.start)
        if stored is None:
            return found
        recipe = stored
    return found


def practised_by_source(source: str) -> Practised:
    """What one replay source practises; nothing where its file is not on this machine."""
    if source == SELF:
        found = dict.fromkeys(("chat", "instructions"), "replay of the base's own answers has its task")
        texts = (message.content for prompt in own_answers.pool() for message in prompt.messages)
        return found | practised_by_texts(texts, "the pool of prompts for replay")
    try:
        items = load_replay_source(source)
    except KeeptuneError:
        # An ancestor's file may be gone; its name still says what it was.
        return {"reading-en": f"replay of {Path(source).name}"} if source.endswith(".json") else {}
    found = {ability: f"replay of {Path(source).name} has its task" for ability in tasks_of(items)}
    return found | practised_by_texts(_texts(items), f"replay of {Path(source).name}")


def tasks_of(items: ReplaySource) -> set[str]:
    """The abilities whose task format the items have."""
    found: set[str] = set()
    for item in items:
        if isinstance(item, ReadingItem):
            found.add("reading-zh" if _is_chinese(item.context) else "reading-en")
        elif _TURNS.search(item):
            found |= {"chat", "instructions"}
        elif _QUESTION_AND_ANSWER.search(item):
            found.add("knowledge")
        elif _CODE.search(item):
            found.add("code")
        else:
            found.add("general-text")
    return found


def practised_by_texts(texts: Iterable[str], what: str) -> Practised:
    """The abilities whose items share a 13-gram with the texts; `what` names these in the reason."""
    shared: dict[str, int] = {}
    for item in suite_index().overlapping(texts):
        ability = item.partition(" ")[0]
        shared[ability] = shared.get(ability, 0) + 1
    return {ability: f"{what} shares 13-grams with {count} of its items" for ability, count in shared.items()}


@cache
def suite_index() -> NgramIndex:
    """The 13-grams of all items of the suite, but for filler of long contexts, which general-text holds."""
    index = NgramIndex()
    for ability in ABILITIES.values():
        for item in ability.items("final", "full"):
            stated: Mapping[str, object] = ability.stated(item)
            # A reading prompt holds worked passages, which are no items: only the passage of the item counts.
            passage = getattr(item, "context", "")
            for text in texts_in([passage, *(own for key, own in stated.items() if key != "prompt")]):
                index.add(f"{ability.name} {stated['id']}", text)
    return index


def _texts(items: ReplaySource) -> Iterable[str]:
    for item in items:
        if isinstance(item, ReadingItem):
            yield item.context
            yield from (item.question, *item.answers)
        else:
            yield item


def _is_chinese(text: str) -> bool:
    return 2 * len(HAN_CHARACTER.findall(text)) > len(_LETTER.findall(text))


def recipe_beside(start: str | None) -> Recipe | None:
    """The recipe of the adapter in a folder: beside it, or in the run that it is a part of."""
    if start is None:
        return None
    for folder in (Path(start), Path(start).parent):
        if (folder / "recipe.yaml").is_file():
            try:
                return recipes.load_stored(folder / "recipe.yaml")
            except KeeptuneError:
                return None
    return None
