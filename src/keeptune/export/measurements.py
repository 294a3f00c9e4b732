"""What was measured on a run or a published adapter: the figures that a model card and a bill of materials state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keeptune.config.recipe import Recipe
from keeptune.data.hub import is_hub_name
from keeptune.errors import ModelError
from keeptune.evaluation.practised import recipe_beside
from keeptune.files import Record, file_sha256, read_json, read_records, stored_content
from keeptune.grading.chinese import HAN_CHARACTER
from keeptune.pipeline.gate_job import FILE as GATE_FILE
from keeptune.pipeline.gate_job import REQUEST_FILE
from keeptune.run_files.directory import ADAPTER_WEIGHTS, RunDirectory
from keeptune.run_files.result import Result, Share
from keeptune.run_files.retention import Ability, Gate, Suite, TaskScore

GATE_FOLDER, SCORES_FOLDER = "gate", "scores"
"""Folders of a published adapter: the output of `keeptune gate --out`, and that of `keeptune score`."""

SCORES_FILE, ANSWERS_FILE = "scores.json", "skill.jsonl"

_CHINESE_SHARE = 0.1
"""Minimum share of problems with Chinese characters for a skill that is called Chinese."""


@dataclass(frozen=True, slots=True)
class SkillMeasurement:
    """The skill of the tuned model, and of the base where it was measured.

    Attributes:
        tuned, base: the scores.
        problems: what the problems are.
        test_files: the names in the recipe's `data.test_files`, if the problems come from there.
        is_chinese: whether problems are in Chinese. Other languages are not recognized.
    """

    tuned: Share
    base: Share | None
    problems: str
    test_files: list[str]
    is_chinese: bool


@dataclass(frozen=True, slots=True)
class Measurements:
    """All figures that are published.

    Attributes:
        source: the file with the verdict, as its folder names it.
        finished: when the evaluation ended, as an ISO timestamp.
        skill: the score on the skill's problems; None where it was not measured.
        ability_records: the abilities as in result.json and gate.json.
        suite: the retention suite that they belong to.
        tasks: tasks of lm-evaluation-harness, by name.
        gate: the verdict.
    """

    source: str
    finished: str
    skill: SkillMeasurement | None
    ability_records: Record
    suite: Suite | None
    tasks: Mapping[str, TaskScore]
    gate: Gate

    @property
    def is_run(self) -> bool:
        """Whether a run was measured, and not a published adapter."""
        return self.source == RunDirectory(Path()).result.name

    @property
    def abilities(self) -> dict[str, Ability]:
        """The abilities by name."""
        return {name: Ability.model_validate(record) for name, record in self.ability_records.items()}


def read_measurements(target: Path) -> Measurements | None:
    """The measurements of a finished run, or of an adapter folder with the output of `keeptune gate` in `gate/`.

    Returns:
        None where there is no verdict.

    Raises:
        ModelError: if the verdict belongs to another adapter.
        RunError: if a file is damaged.
    """
    directory = RunDirectory(target)
    if directory.result.is_file():
        return _of_run(directory)
    if (target / GATE_FOLDER / GATE_FILE).is_file():
        return _of_adapter(target)
    return None


def recipe_of(target: Path) -> Recipe | None:
    """The recipe of a run or of a published adapter; None where there is none."""
    return recipe_beside(str(target))


def hub_datasets(recipe: Recipe | None) -> list[str]:
    """The names of the data sets of the Hugging Face hub that the recipe trains on."""
    files = recipe.data.files if recipe else ()
    names = [name.removeprefix("hf:").partition("#")[0].partition("@")[0] for name in files if is_hub_name(name)]
    return list(dict.fromkeys(names))


def _of_run(directory: RunDirectory) -> Measurements:
    record = read_json(directory.result, Result)
    result = Result.model_validate(record)
    records = directory.records("skill", "tuned")
    recipe = recipe_of(directory.root)
    test_files = list(recipe.data.test_files) if recipe else []
    names = ", ".join(name if is_hub_name(name) else Path(name).name for name in test_files)
    problems = f"test problems: {names}" if names else "held-out problems of the run"
    skill = SkillMeasurement(result.skill.tuned, result.skill.base, problems, test_files, _is_chinese(records))
    return Measurements(
        directory.result.name,
        result.finished,
        skill,
        record.get("abilities", {}),
        result.suite,
        result.retained.tasks,
        result.gate,
    )


def _of_adapter(folder: Path) -> Measurements:
    gate_folder = folder / GATE_FOLDER
    _check_adapter(folder, gate_folder)
    with stored_content(gate_folder / GATE_FILE):
        record = read_json(gate_folder / GATE_FILE)
        return Measurements(
            f"{GATE_FOLDER}/{GATE_FILE}",
            record["finished"],
            _published_skill(folder / SCORES_FOLDER),
            record["abilities"],
            Suite.model_validate(record["suite"]),
            {},
            Gate.model_validate(record["gate"]),
        )


def _check_adapter(folder: Path, gate_folder: Path) -> None:
    """Checks that the verdict is one on the weights in `folder`."""
    judged = read_json(gate_folder / REQUEST_FILE).get("adapter") or []
    weights = file_sha256(folder / ADAPTER_WEIGHTS)
    if weights not in judged:
        raise ModelError(
            f"{gate_folder / REQUEST_FILE}: judges other weights ({', '.join(map(str, judged)) or 'no adapter'}; "
            f"{ADAPTER_WEIGHTS} here has SHA-256 {weights}); repeat `keeptune gate`, or delete the folder {GATE_FOLDER}"
        )


def _published_skill(folder: Path) -> SkillMeasurement | None:
    """The skill in `keeptune score --json`'s output, where it was stored."""
    if not (folder / SCORES_FILE).is_file():
        return None
    with stored_content(folder / SCORES_FILE):
        skill = read_json(folder / SCORES_FILE)["skill"]
        return SkillMeasurement(
            Share.model_validate(skill), None, Path(skill["file"]).name, [], _is_chinese(folder / ANSWERS_FILE)
        )


def _is_chinese(records: Path) -> bool:
    problems = [str(record.get("problem", "")) for record in read_records(records)] if records.is_file() else []
    chinese = sum(HAN_CHARACTER.search(problem) is not None for problem in problems)
    return bool(problems) and chinese >= _CHINESE_SHARE * len(problems)
