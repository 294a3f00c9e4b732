"""Loads and validates the items of the retention suite from the data files beside this module, one per line.

Multiple-choice items come in sets of four prompts over the same four options, and each option is right exactly once. A
model that ignores the prompt therefore scores 25 %, whatever option it prefers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from keeptune.errors import DataError
from keeptune.prompts.chat import Message

VERSION = "1"
"""Version of the suite. It increases whenever an item, a generator or a scoring rule changes."""

DEV_EVERY = 6
"""Every sixth item or set of items is for checkpoint selection (split "dev"). The others are for verdicts ("final")."""

Split = Literal["final", "dev"]
Size = Literal["quick", "standard", "full"]
Language = Literal["en", "zh"]
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class Line(BaseModel):
    """Common fields of all items: id, ability, language, topic, source and license."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    ability: Text
    language: Language
    topic: Text
    source: Text
    licence: Text


class ChoiceSet(Line):
    """Four prompts over the same four options. Option i is the answer to prompt i."""

    options: Annotated[tuple[Text, ...], Field(min_length=4, max_length=4)]
    prompts: Annotated[tuple[Text, ...], Field(min_length=4, max_length=4)]

    @model_validator(mode="after")
    def _differ(self) -> ChoiceSet:
        for name in ("options", "prompts"):
            if len(set(getattr(self, name))) < 4:
                raise ValueError(f"the four {name} must differ")
        return self


class Conversation(Line):
    """A conversation that ends with a user turn, which the model answers."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Conversation:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self


class Instruction(Line):
    """A prompt with constraints that a program can check (constraints.py)."""

    prompt: Text
    constraints: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


class Request(Line):
    """A request to decline, or its harmless twin. Both have the same `pair`."""

    prompt: Text
    pair: Text
    harmful: bool


class Prose(Line):
    """A text whose tokens are predicted."""

    text: Text


AnyLine = TypeVar("AnyLine", bound=Line)


@cache
def load(file: str, kind: type[AnyLine]) -> tuple[AnyLine, ...]:
    """Loads the items of a data file of the suite.

    Raises:
        DataError: if a line is not JSON, lacks a key or repeats an id; the message names file and line.
    """
    return parse((resources.files("keeptune.evaluation.suite") / file).read_text(encoding="utf-8"), file, kind)


def parse(text: str, where: str, kind: type[AnyLine]) -> tuple[AnyLine, ...]:
    """Parses the items of a JSON Lines text. `where` is its name in error messages.

    Raises:
        DataError: as in `load`.
    """
    items: dict[str, AnyLine] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise DataError(f"{where}:{number}: {key + ': ' if key else ''}{first['msg']}") from None
        if item.id in items:
            raise DataError(f"{where}:{number}: the id {item.id!r} is used twice; ids must be unique")
        items[item.id] = item
    return tuple(items.values())


def in_split(items: Sequence[AnyLine], split: Split) -> list[AnyLine]:
    """The items of one split, by their place in the file. No item is in both splits."""
    is_dev = split == "dev"
    return [item for place, item in enumerate(items, start=1) if (place % DEV_EVERY == 0) == is_dev]


def load_every(file: str, kind: type[AnyLine], split: Split, every: int) -> list[AnyLine]:
    """Every n-th item of a split of one data file, so that the items spread over the whole file."""
    return in_split(load(file, kind), split)[::every]
