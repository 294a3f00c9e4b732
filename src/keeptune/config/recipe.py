"""The recipe: everything that decides a run, typed, read from a YAML file.

`load` returns a recipe complete or raises one RecipeError that lists every fault at once, each with its place and, for
a key that does not exist, the nearest one that does. Nothing in a recipe names code. The settings and their defaults
are in sections.py and data_section.py.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from keeptune.config import aliases, families
from keeptune.config.data import DataSection
from keeptune.config.retain import SELF, RetainSection
from keeptune.config.section import Section, or_refuse
from keeptune.config.sections import (
    AdapterSection,
    Engine,
    GateSection,
    ModelSection,
    PromptSection,
    ScoreSection,
    SelectSection,
    TrainSection,
)
from keeptune.errors import RecipeError


class Recipe(Section):
    """A whole job."""

    name: str = "run"
    seed: int = 0
    engine: Engine = "torch"
    model: ModelSection = ModelSection()
    data: DataSection
    prompt: PromptSection = PromptSection()
    adapter: AdapterSection = AdapterSection()
    train: TrainSection = TrainSection()
    retain: RetainSection = RetainSection()
    score: ScoreSection = ScoreSection()
    select: SelectSection = SelectSection()
    gate: GateSection = GateSection()

    @model_validator(mode="before")
    @classmethod
    def _current_keys(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        current, deprecated = aliases.with_current_keys(tree)
        aliases.warn(deprecated, "recipe")
        return current

    @model_validator(mode="after")
    def _trained_as_it_can_be(self) -> Recipe:
        family, train = self.adapter.family, self.train
        faults = families.refused_training(family, train.loraplus_ratio, train.weight_decay)
        if train.shard and self.retain.replays_self:
            faults.append(
                "retain.replay: self has the base answer before training, which a base that is divided over processes "
                "(train.shard) cannot; leave one of them out"
            )
        if self.model.quantization:
            faults += families.refused_quantised(family, self.engine == "mindspore", train.shard)
        return or_refuse(self, faults)

    @model_validator(mode="after")
    def _invoked_as_it_can_be(self) -> Recipe:
        invocation = self.retain.invocation
        if invocation is None:
            return self
        faults = []
        if not self.adapter.is_plain_lora:
            faults.append("retain.activation: invoked needs adapter.family: lora or rslora, and adapter.dropout: 0")
        if invocation not in self.prompt.template.split("{problem}")[0]:
            faults.append(
                f"retain.invocation: prompt.template does not hold {invocation!r} before {{problem}}, so the adapter "
                "would never act; begin the template with it"
            )
        return or_refuse(self, faults)

    @model_validator(mode="after")
    def _projected_from_something(self) -> Recipe:
        faults = []
        if self.retain.project_start and not (self.adapter.start and self.retain.replay_share):
            faults.append(
                "retain.project_start is for an adapter to go on from, by rows that are replayed; set adapter.start "
                "and retain.replay_share, or leave it out"
            )
        if self.retain.project_start and not self.adapter.is_plain_lora:
            faults.append("retain.project_start needs adapter.family: lora or rslora, and adapter.dropout: 0")
        if self.retain.project_start and self.train.shard:
            faults.append("retain.project_start needs the whole base in each process; leave train.shard out")
        return or_refuse(self, faults)

    @model_validator(mode="after")
    def _decided_by_something(self) -> Recipe:
        if self.gate.policy == "suite" and self.score.suite == "none":
            raise ValueError(
                "gate.policy: suite decides by the retention suite; set score.suite to quick, standard or full, or "
                "write gate: contest"
            )
        return self

    @model_validator(mode="after")
    def _chosen_on_something(self) -> Recipe:
        if (self.train.score_every_steps or self.select.compares) and not (
            self.data.split.dev and self.score.dev_limit
        ):
            raise ValueError(
                "train.score_every_steps, select.scales and select.averages need dev questions; set data.split.dev and "
                "score.dev_limit above 0"
            )
        return self


def load(path: Path, overrides: tuple[str, ...] = (), *, is_stored: bool = False) -> Recipe:
    """Returns the recipe in the file at `path`, with `a.b=c` overrides applied.

    Each deprecated key causes a `DeprecatedKeyWarning`, except in a recipe that a run has stored: nobody edits it.

    Raises:
        RecipeError: lists every fault, each with its key.
    """
    tree, deprecated = _with_overrides(_read(path), overrides, str(path))
    if not is_stored:
        aliases.warn(deprecated, str(path))
    return located(parse(tree, str(path)), path.parent)


def load_recipe(path: str | Path, *overrides: str) -> Recipe:
    """The recipe in a YAML file, with overrides such as `train.epochs=2` applied.

    Raises:
        RecipeError: listing every fault at once, each with its place in the file.
    """
    return load(Path(path), overrides)


BEFORE_THE_SUITE = ("score.suite=none", "gate.policy=contest")
"""The settings of runs from before the retention suite: judged by reading alone."""


def load_stored(path: Path) -> Recipe:
    """Returns the recipe that a run has stored. Settings that its version of keeptune did not have stay off.

    Raises: as `load`.
    """
    return load(path, BEFORE_THE_SUITE if is_before_the_suite(path) else (), is_stored=True)


def is_before_the_suite(path: Path) -> bool:
    """Whether a stored recipe, which is always complete, does not have the retention suite's settings."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and isinstance(tree.get("score"), dict) and "suite" not in tree["score"]


def as_before_the_suite(recipe: Recipe) -> Recipe:
    """The recipe with what such runs did not know switched off, so that they can be resumed with their own recipe."""
    changes: dict[str, Any] = {
        "score": recipe.score.model_copy(update={"suite": "none"}),
        "gate": recipe.gate.model_copy(update={"policy": "contest"}),
    }
    return recipe.model_copy(update=changes)


def overridden(tree: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Returns the tree with `a.b=c` overrides applied.

    Raises:
        RecipeError: if an override has another form.
    """
    changed, deprecated = _with_overrides(tree, overrides, "recipe")
    aliases.warn(deprecated, "--set")
    return changed


def parse(tree: dict[str, Any], where: str) -> Recipe:
    """The recipe that a mapping describes; `where` names it in errors."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  - {_describe(fault)}" for fault in error.errors())
        raise RecipeError(f"{where}: the recipe cannot be used:\n{faults}") from None


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, defaults included: what a run stores and can be run from again."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def sha256(recipe: Recipe) -> str:
    """The hash of the complete recipe."""
    return hashlib.sha256(dump(recipe).encode()).hexdigest()


def located(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its files named from the root: a run is resumed from wherever one stands."""

    def locate(name: str) -> str:
        # A link keeps its own name, whose ending says how the file is to be read.
        return os.path.normpath(folder.absolute() / Path(name).expanduser())

    def files(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name.startswith("hf:") else locate(name) for name in names)

    def section(part: Section, **changes: Any) -> Section:
        return part.model_copy(update=changes)

    def embedded_or_files(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name in ("embedded", SELF) else locate(name) for name in names)

    data, score, retain, model = recipe.data, recipe.score, recipe.retain, recipe.model
    (reading,) = embedded_or_files((score.retained,))
    own = locate(score.tasks_path) if score.tasks_path else None
    changes = {
        "data": section(
            data, files=files(data.files), exclude_files=files(data.exclude_files), test_files=files(data.test_files)
        ),
        "score": section(score, retained=reading, general=embedded_or_files(score.general), tasks_path=own),
        "retain": section(retain, replay=embedded_or_files(retain.replay)),
        "adapter": section(recipe.adapter, start=locate(recipe.adapter.start) if recipe.adapter.start else None),
        "model": section(model, name=locate(model.name) if model.name.startswith((".", "~")) else model.name),
    }
    return recipe.model_copy(update=changes)


def _read(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text; save the recipe as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-99-99
        raise RecipeError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections (model, data, train, …)")
    return tree


def _with_overrides(
    tree: dict[str, Any], overrides: tuple[str, ...], where: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the tree under current keys with the overrides applied, and the deprecated keys of both."""
    try:
        changed, deprecated = aliases.with_current_keys(tree)
    except ValueError as error:
        raise RecipeError(f"{where}: the recipe cannot be used:\n  - {error}") from None
    changed = copy.deepcopy(changed)
    for override in overrides:
        current, old = aliases.current_override(override)
        _set(changed, current)
        deprecated += (old,) if old else ()
    return changed, deprecated


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: write it as section.key=value, e.g. --set train.epochs=2")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: {section} is a value, not a section")
    try:
        node[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"--set {override}: not valid YAML: {error}") from None


def _describe(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        options = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        near = difflib.get_close_matches(fault["input"], options, n=1, cutoff=0.5)
        advice = f"; did you mean {near[0]}?" if near else ""
        return f"{place}: {fault['msg']}{advice}"
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message
    known = _keys(fault["loc"][:-1])
    key = str(fault["loc"][-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if renamed := difflib.get_close_matches(place, aliases.ALIASES, n=1, cutoff=0.9):
        near = [aliases.ALIASES[renamed[0]]]
    advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{place}: no such key; {advice}"


def _keys(place: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in place:
        if isinstance(part, int):  # of several sections in a list, this one
            continue
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)
