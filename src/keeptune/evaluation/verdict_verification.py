"""Recomputes a retention verdict from its stored answers: items, grades, figures and hashes, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from keeptune.config.ability_names import ALL
from keeptune.errors import DataError
from keeptune.evaluation.abilities.base import Ability, Record
from keeptune.evaluation.abilities.questions import Question, Questions
from keeptune.evaluation.abilities.registry import ABILITIES, suite_sha256
from keeptune.evaluation.gate import Limits, judge
from keeptune.evaluation.model_pair import WHO
from keeptune.evaluation.retention_suite import LOOKS, record_path, stored
from keeptune.evaluation.suite.loader import Size
from keeptune.evaluation.verdict_record import abilities_record, gate_record
from keeptune.files import file_sha256, read_json, read_records


class Findings(Protocol):
    """Where differences are noted."""

    answers: int
    figures: int
    hashes: int

    def expect(self, place: str, stored: Any, found: Any) -> None:
        """Notes a fault unless both are the same."""

    def expect_each(self, place: str, stored: Sequence[Any], found: Sequence[Any]) -> None:
        """Notes the first place where two lists differ."""


def check_answers(ability: Ability, size: Size, folder: Path, findings: Findings, *, whole: bool) -> None:
    """Each record is of an item of the suite, unchanged, and its grade follows from the answer.

    `whole`: all items were asked, in their order; a sequential evaluation asks a part of them in another order.
    """
    items = {stated["id"]: stated for stated in map(ability.stated, ability.items("final", size))}
    asked: dict[str, list[str]] = {}
    for who in WHO:
        path = record_path(folder, ability.name, who)
        records = read_records(path)
        asked[who] = [str(record.get("id")) for record in records]
        if whole:
            findings.expect_each(f"{path.name}, ids", asked[who], list(items))
        for record in records:
            item = items.get(str(record.get("id")), {})
            for key, value in item.items():
                findings.expect(f"{path.name}, {record['id']}, {key}", record.get(key), value)
            if not item:
                findings.expect(f"{path.name}, id", record.get("id"), None)
        _check_grades(ability, path.name, records, findings)
    findings.expect_each(f"{ability.name}, questions of base and tuned", asked["base"], asked["tuned"])


def _check_grades(ability: Ability, file: str, records: Sequence[Record], findings: Findings) -> None:
    try:
        grades = ability.grade(records)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{file}: a record does not have the fields of {ability.name} ({error})") from None
    for record, graded in zip(records, grades, strict=True):
        findings.answers += 1
        for key, value in graded.items():
            findings.expect(f"{file}, {record['id']}, {key}", record.get(key), value)


def check_gate_folder(folder: Path, made: Mapping[str, Any], findings: Findings) -> None:
    """A folder that `keeptune gate --out` wrote; `made` is its gate.json."""
    for name, value in made["hashes"].items():
        findings.hashes += 1
        findings.expect(f"gate.json, hashes.{name}", value, file_sha256(folder / name))
    settings, gate = made["settings"], made["gate"]
    counted = None if settings["counted"] == [ALL] else frozenset(settings["counted"])
    limits = Limits(gate["threshold"], gate["margin"], settings["thresholds"], settings["margins"], counted)
    sequential = bool(settings["sequential"])
    size: Size = made["suite"]["size"]
    findings.hashes += 1
    findings.expect("gate.json, suite.sha256", made["suite"]["sha256"], suite_sha256(size))
    scores = []
    for name in made["abilities"]:
        ability = ABILITIES[name] if name in ABILITIES else _questions(folder)
        check_answers(ability, size, folder, findings, whole=not sequential)
        scores.append(stored(ability, folder).scores(made["practised"].get(name)))
    judged = judge(
        scores, limits, resamples=settings["resamples"], seed=settings["seed"], looks=LOOKS if sequential else 1
    )
    found = {"abilities": abilities_record(judged), "gate": gate_record(judged, limits)}
    for key, value in found.items():
        findings.figures += 1
        findings.expect(f"gate.json, {key}", made[key], value)


def _questions(folder: Path) -> Questions:
    return Questions([Question.model_validate(own) for own in read_json(folder / "questions.json")["questions"]])
