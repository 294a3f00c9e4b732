"""The files of a finished run, read and checked before anything is drawn.

A file that is missing or does not fit raises an error that names it and says what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from keeptune.config.ability_names import READING_ABILITY, TASK_PREFIX
from keeptune.config.aliases import with_current_keys
from keeptune.config.yaml_reader import YamlError, parse_yaml
from keeptune.errors import RunError
from keeptune.event_log import EventLog
from keeptune.files import read_regular_bytes
from keeptune.run_files.artefact import Artefact
from keeptune.run_files.card import Card
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.events import ScoreEvent, TrainEvent
from keeptune.run_files.manifest import Manifest
from keeptune.run_files.records import Answer, ItemRecord, ReadingAnswer
from keeptune.run_files.result import Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """The contents of a run directory that a report shows; records of abilities are read later, one by one."""

    folder: Path
    result: Result
    recipe: dict[str, Any]
    manifest: Manifest
    card: Card
    steps: list[TrainEvent]
    dev_scores: list[ScoreEvent]
    base_answers: list[Answer]
    tuned_answers: list[Answer]
    base_reading: list[ReadingAnswer]
    tuned_reading: list[ReadingAnswer]
    artefacts: list[Artefact] = field(default_factory=list)


def read(run: Path) -> Facts:
    """The facts of the finished run in `run`.

    Raises:
        RunError: naming the file that is missing or does not fit.
    """
    if not run.is_dir():
        raise RunError(f"{run}: no such run directory; check the path, or start a run with `keeptune run`")
    directory = RunDirectory(run)
    log = EventLog(directory.event_log).events()
    return Facts(
        folder=run,
        result=_json(directory.result, Result),
        recipe=_recipe(directory.recipe),
        manifest=_json(directory.manifest, Manifest),
        card=_json(directory.data_card, Card),
        steps=[TrainEvent.model_validate(event) for event in log if event["event"] == "train"],
        dev_scores=[ScoreEvent.model_validate(event) for event in log if event["event"] == "score"],
        base_answers=_lines(directory.records("skill", "base"), Answer),
        tuned_answers=_lines(directory.records("skill", "tuned"), Answer),
        base_reading=_lines(directory.records("retained", "base"), ReadingAnswer),
        tuned_reading=_lines(directory.records("retained", "tuned"), ReadingAnswer),
        artefacts=[_json(path, Artefact) for path in directory.artefact_files()],
    )


def ability_records(run: Path, ability: str) -> tuple[list[ItemRecord], list[ItemRecord]] | None:
    """The records of base and tuned on an ability; None where the run has none.

    Raises:
        RunError: naming the file and line that does not fit.
    """
    task = ability.removeprefix(TASK_PREFIX) if ability.startswith(TASK_PREFIX) else None
    stems = ["tasks"] if task else [f"ability-{ability}", *(["retained"] if ability == READING_ABILITY else [])]
    for stem in stems:
        paths = [RunDirectory(run).records(stem, variant) for variant in ("base", "tuned")]
        if all(path.is_file() for path in paths):
            base, tuned = ([record for record in _lines(path, ItemRecord) if record.task == task] for path in paths)
            return base, tuned
    return None


def _text(path: Path) -> str:
    try:
        return read_regular_bytes(path).decode()
    except FileNotFoundError:
        raise RunError(f"{path}: missing, so the run is not finished; finish it with `keeptune run`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(str(path), error) from None


def _json(path: Path, kind: type[T]) -> T:
    return _checked(str(path), _text(path), kind)


def _lines(path: Path, kind: type[T]) -> list[T]:
    # Not splitlines: a model may write U+2028 and the like, which JSON leaves inside a string.
    lines = _text(path).split("\n")
    return [_checked(f"{path}:{number}", line, kind) for number, line in enumerate(lines, 1) if line]


def _checked(where: str, text: str, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_python(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error) from None


def _recipe(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(_text(path))
    except YamlError as error:
        raise _damaged(str(path), error) from None
    if not isinstance(tree, dict):
        raise _damaged(str(path), "it is not a mapping of sections")
    try:
        return with_current_keys(tree)[0]
    except ValueError as error:
        raise _damaged(str(path), error) from None


def _damaged(where: str, why: object) -> RunError:
    if isinstance(why, ValidationError):
        why = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in why.errors()[:3])
    return RunError(f"{where}: cannot be used ({why}); restore the file, or delete it and run the same recipe again")
