"""The recipe: every setting of a run, typed, read from a YAML file.

`load` returns a valid recipe or raises one RecipeError that lists every error with its key. A recipe cannot name code
to run. One module of this package defines each section; docs/reference/recipe.md lists all keys.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from keeptune.config import aliases, error_messages, families
from keeptune.config.adapter import AdapterSection
from keeptune.config.data import DataSection
from keeptune.config.gate import GateSection
from keeptune.config.model import ModelSection
from keeptune.config.prompt import PromptSection
from keeptune.config.retain import ON_POLICY, WRITTEN, RetainSection
from keeptune.config.score import ScoreSection
from keeptune.config.section import Section, raise_errors
from keeptune.config.select import SelectSection
from keeptune.config.train import Engine, TrainSection
from keeptune.config.yaml_reader import YamlError, parse_yaml, read_bounded
from keeptune.errors import RecipeError

_LONGEST_OVERRIDE = 200
"""Characters of an override that a message shows."""

_NOT_IN_FILE_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")
_LONGEST_NAME_BYTES = 200
"""File systems allow 255 bytes; sweeps add a suffix."""


class Recipe(Section):
    """All settings of a run."""

    name: str = Field("run", description="name of the run; the default run directory is `runs/NAME`")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of every random choice")
    engine: Engine = Field(
        "torch",
        description="training engine; `mindspore` needs a Python environment of its own (docs/tutorials/mindspore.md)",
    )
    model: ModelSection = Field(ModelSection(), description="the base model")
    data: DataSection = Field(description="the training rows")
    prompt: PromptSection = Field(PromptSection(), description="the prompt template")
    adapter: AdapterSection = Field(AdapterSection(), description="the adapter")
    train: TrainSection = Field(TrainSection(), description="the training")
    retain: RetainSection = Field(RetainSection(), description="how other abilities are kept")
    score: ScoreSection = Field(ScoreSection(), description="the evaluation")
    select: SelectSection = Field(SelectSection(), description="the selection of the checkpoint")
    gate: GateSection = Field(GateSection(), description="the retention gate")

    @model_validator(mode="before")
    @classmethod
    def _rename_deprecated_keys(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        current, deprecated = aliases.with_current_keys(tree)
        aliases.warn(deprecated, "recipe")
        return current

    @model_validator(mode="after")
    def _check_family(self) -> Recipe:
        family, train = self.adapter.family, self.train
        errors = families.training_errors(family, train.loraplus_ratio, train.weight_decay)
        if train.shard and any(map(self.retain.replays, WRITTEN)):
            errors.append(
                "retain.replay: self and on_policy need answers before training, which a sharded base (train.shard) "
                "cannot give; remove one of the two"
            )
        if self.retain.replays(ON_POLICY) and not self.adapter.start:
            errors.append("retain.replay: on_policy has the answers of a given adapter; set adapter.start, or use self")
        if self.model.quantization:
            errors += families.quantization_errors(family, self.engine == "mindspore", train.shard)
        raise_errors(errors)
        return self

    @model_validator(mode="after")
    def _check_invocation(self) -> Recipe:
        invocation = self.retain.invocation
        if invocation is None:
            return self
        errors = []
        if not self.adapter.is_plain_lora:
            errors.append("retain.activation: invoked needs adapter.family: lora or rslora, and adapter.dropout: 0")
        if invocation not in self.prompt.template.split("{problem}")[0]:
            errors.append(
                f"retain.invocation: prompt.template does not contain {invocation!r} before {{problem}}, so the "
                "adapter would never act; begin the template with it"
            )
        raise_errors(errors)
        return self

    @model_validator(mode="after")
    def _check_projection(self) -> Recipe:
        if not self.retain.project_start:
            return self
        errors = []
        if not (self.adapter.start and self.retain.replay_share):
            errors.append(
                "retain.project_start projects a given adapter by replayed rows; set adapter.start and "
                "retain.replay_share, or remove it"
            )
        if not self.adapter.is_plain_lora:
            errors.append("retain.project_start needs adapter.family: lora or rslora, and adapter.dropout: 0")
        if self.train.shard:
            errors.append("retain.project_start needs the whole base in each process; remove train.shard")
        raise_errors(errors)
        return self

    @model_validator(mode="after")
    def _check_start_rate(self) -> Recipe:
        if self.adapter.start_rate_ratio == 1:
            return self
        errors = []
        if not self.adapter.start:
            errors.append("adapter.start_rate_ratio slows the ranks of a given adapter; set adapter.start")
        if self.train.shard:
            errors.append("adapter.start_rate_ratio needs the whole adapter in each process; remove train.shard")
        raise_errors(errors)
        return self

    @model_validator(mode="after")
    def _check_gate(self) -> Recipe:
        if self.gate.policy == "suite" and self.score.suite == "none":
            raise ValueError(
                "gate.policy: suite needs the retention suite; set score.suite to quick, standard or full, or set "
                "gate: contest"
            )
        return self

    @model_validator(mode="after")
    def _check_dev_questions(self) -> Recipe:
        if (self.train.score_every_steps or self.select.compares) and not (
            self.data.split.dev and self.score.dev_limit
        ):
            raise ValueError(
                "train.score_every_steps, select.scales and select.averages need dev questions; set data.split.dev > 0 "
                "and score.dev_limit > 0"
            )
        return self


def load(path: Path, overrides: tuple[str, ...] = (), *, is_stored: bool = False) -> Recipe:
    """Returns the recipe in the file at `path`, with `a.b=c` overrides applied.

    Each deprecated key causes a `DeprecatedKeyWarning`, except in a recipe that a run has stored: nobody edits it.

    Raises:
        RecipeError: lists every error with its key.
    """
    tree, deprecated = _with_overrides(_read(path), overrides, str(path))
    if not is_stored:
        aliases.warn(deprecated, str(path))
    recipe = parse(tree, str(path))
    if not is_stored:
        _require_file_name(recipe.name, str(path))
    return with_absolute_paths(recipe, path.parent)


def load_recipe(path: str | Path, *overrides: str) -> Recipe:
    """Returns the recipe in a YAML file, with overrides such as `train.epochs=2` applied.

    Raises:
        RecipeError: lists every error with its key.
    """
    return load(Path(path), overrides)


SETTINGS_WITHOUT_SUITE = ("score.suite=none", "gate.policy=contest")
"""Settings of runs that predate the retention suite: the gate uses reading alone."""


def load_stored(path: Path) -> Recipe:
    """Returns the recipe that a run has stored. Settings that its version of keeptune did not have stay off.

    Raises: as `load`.
    """
    return load(path, SETTINGS_WITHOUT_SUITE if predates_suite(path) else (), is_stored=True)


def predates_suite(path: Path) -> bool:
    """Whether a stored recipe lacks the settings of the retention suite. Stored recipes are complete otherwise."""
    try:
        tree = parse_yaml(read_bounded(path))
    except (OSError, YamlError):
        return False
    return isinstance(tree, dict) and isinstance(tree.get("score"), dict) and "suite" not in tree["score"]


def without_suite(recipe: Recipe) -> Recipe:
    """Returns the recipe with the retention suite off, so that a run that predates it resumes with its recipe."""
    changes: dict[str, Any] = {
        "score": recipe.score.model_copy(update={"suite": "none"}),
        "gate": recipe.gate.model_copy(update={"policy": "contest"}),
    }
    return recipe.model_copy(update=changes)


def with_overrides(tree: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Returns the tree with `a.b=c` overrides applied.

    Raises:
        RecipeError: if an override has another form.
    """
    changed, deprecated = _with_overrides(tree, overrides, "recipe")
    aliases.warn(deprecated, "--set")
    return changed


def parse(tree: dict[str, Any], where: str) -> Recipe:
    """Returns the recipe that a mapping describes.

    Raises:
        RecipeError: lists every error with its key; `where` names the recipe.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _recipe_error(where, error_messages.messages(error, Recipe)) from None


def dump(recipe: Recipe) -> str:
    """Returns the complete recipe as YAML, defaults included. A run stores it, and can be repeated from it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    """Returns the recipe with absolute file names, so that a run resumes from any directory.

    Relative names are relative to `folder`.
    """

    def absolute(name: str) -> str:
        # A symbolic link is not resolved: the suffix of the link selects the reader.
        return os.path.normpath(folder.absolute() / Path(name).expanduser())

    def files(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name.startswith("hf:") else absolute(name) for name in names)

    def keywords_or_files(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name in ("embedded", *WRITTEN) else absolute(name) for name in names)

    def changed(section: Section, **changes: Any) -> Section:
        return section.model_copy(update=changes)

    data, score, model, start = recipe.data, recipe.score, recipe.model, recipe.adapter.start
    changes = {
        "data": changed(
            data,
            files=files(data.files),
            exclude_files=files(data.exclude_files),
            test_files=files(data.test_files),
        ),
        "score": changed(
            score,
            retained=keywords_or_files((score.retained,))[0],
            general=keywords_or_files(score.general),
            tasks_path=absolute(score.tasks_path) if score.tasks_path else None,
        ),
        "retain": changed(recipe.retain, replay=keywords_or_files(recipe.retain.replay)),
        "adapter": changed(recipe.adapter, start=absolute(start) if start else None),
        "model": changed(model, name=absolute(model.name) if model.name.startswith((".", "~")) else model.name),
    }
    return recipe.model_copy(update=changes)


def _read(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file."""
    try:
        tree = parse_yaml(read_bounded(path))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}); check the path") from None
    except YamlError as error:
        raise RecipeError(f"{path}{f':{error.line}' if error.line else ''}: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections (model, data, train, …)")
    return tree


def _require_file_name(name: str, where: str) -> None:
    """Raises RecipeError unless `runs/NAME` is a folder directly below `runs`. Stored recipes may predate the rule."""
    is_file_name = name.strip(" .") and not _NOT_IN_FILE_NAMES.search(name)
    if not is_file_name or len(name.encode()) > _LONGEST_NAME_BYTES:
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise RecipeError(
            f"{where}: name must be a plain file name of at most {_LONGEST_NAME_BYTES} bytes, without / and control "
            f"characters (got {shown!a}); choose another directory with --run instead"
        )


def _with_overrides(
    tree: dict[str, Any], overrides: tuple[str, ...], where: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the tree under current keys with the overrides applied, and the deprecated keys of both."""
    try:
        changed, deprecated = aliases.with_current_keys(tree)
    except ValueError as error:
        raise _recipe_error(where, [str(error)]) from None
    changed = copy.deepcopy(changed)
    for override in overrides:
        current, old = aliases.current_override(override)
        _set(changed, current)
        deprecated += (old,) if old else ()
    return changed, deprecated


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: use section.key=value, such as --set train.epochs=2")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: {section} is a value, not a section")
    try:
        node[last] = parse_yaml(value)
    except YamlError as error:
        raise RecipeError(f"--set {override[:_LONGEST_OVERRIDE]}: {error}") from None


def _recipe_error(where: str, messages: Sequence[str]) -> RecipeError:
    if len(messages) == 1:
        return RecipeError(f"{where}: {messages[0]}")
    return RecipeError("\n  - ".join([f"{where}: {len(messages)} errors", *messages]))
