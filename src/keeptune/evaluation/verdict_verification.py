"""Recomputes a retention verdict from its stored records: items, grades, figures and hashes. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from keeptune.config.ability_names import ALL
from keeptune.config.gate import MAX_RESAMPLES
from keeptune.errors import DataError
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.questions import Question, Questions
from keeptune.evaluation.abilities.registry import ABILITIES, suite_sha256
from keeptune.evaluation.gate import Limits, judge
from keeptune.evaluation.model_pair import VARIANTS
from keeptune.evaluation.suite.loader import Size
from keeptune.evaluation.suite_evaluation import LOOKS, load_paired_records, record_path
from keeptune.evaluation.verdict_record import abilities_record, gate_record
from keeptune.files import Record, file_sha256, read_json, read_records


class Findings(Protocol):
    """Collects differences between stored and recomputed values, and counts what was checked."""

    answers: int
    figures: int
    hashes: int

    def expect(self, place: str, stored: Any, recomputed: Any) -> None:
        """Records a difference unless both values are equal."""

    def expect_each(self, place: str, stored: Sequence[Any], recomputed: Sequence[Any]) -> None:
        """Records the first difference between two lists."""


def check_answers(ability: Ability, size: Size, folder: Path, findings: Findings, *, whole: bool) -> None:
    """Checks that each record has the fields of a suite item, and that its grade follows from its answer.

    `whole` says that all items were evaluated in their order. A sequential evaluation covers a part in another order.

    Raises:
        DataError: if a record lacks fields of the ability.
    """
    ids: dict[str, list[str]] = {}
    for variant in VARIANTS:
        path = record_path(folder, ability.name, variant)
        records = read_records(path)
        ids[variant] = [str(record.get("id")) for record in records]
        check_items(ability, size, path.name, records, findings, whole=whole)
        check_grades(ability, path.name, records, findings)
    findings.expect_each(f"{ability.name}, questions of base and tuned", ids["base"], ids["tuned"])


def check_items(
    ability: Ability, size: Size, file: str, records: Sequence[Record], findings: Findings, *, whole: bool = True
) -> None:
    """Checks that each record of a file has the fields of a suite item; `whole` as in `check_answers`."""
    items = {fields["id"]: fields for fields in map(ability.item_fields, ability.items("final", size))}
    if whole:
        findings.expect_each(f"{file}, ids", [str(record.get("id")) for record in records], list(items))
    for record in records:
        item = items.get(str(record.get("id")), {})
        for key, value in item.items():
            findings.expect(f"{file}, {record['id']}, {key}", record.get(key), value)
        if not item:
            findings.expect(f"{file}, id", record.get("id"), None)


def check_grades(ability: Ability, file: str, records: Sequence[Record], findings: Findings) -> None:
    """Checks that the grade of each record follows from its answer.

    Raises:
        DataError: if a record lacks fields of the ability.
    """
    try:
        grades = ability.grade_records(records)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{file}: a record lacks fields of the ability {ability.name} ({error}); restore the file"
        ) from None
    for record, grade in zip(records, grades, strict=True):
        findings.answers += 1
        for key, value in grade.items():
            findings.expect(f"{file}, {record['id']}, {key}", record.get(key), value)


def check_gate_folder(folder: Path, record: Mapping[str, Any], findings: Findings) -> None:
    """Checks a folder that `keeptune gate --out` wrote. `record` is the content of its gate.json."""
    for name, value in record["hashes"].items():
        findings.hashes += 1
        findings.expect(f"gate.json, hashes.{name}", value, file_sha256(folder / name))
    settings, gate = record["settings"], record["gate"]
    counted = None if settings["counted"] == [ALL] else frozenset(settings["counted"])
    limits = Limits(gate["threshold"], gate["margin"], settings["thresholds"], settings["margins"], counted)
    sequential = bool(settings["sequential"])
    size: Size = record["suite"]["size"]
    findings.hashes += 1
    findings.expect("gate.json, suite.sha256", record["suite"]["sha256"], suite_sha256(size))
    scores = []
    for name in record["abilities"]:
        ability = ABILITIES[name] if name in ABILITIES else _user_questions(folder)
        check_answers(ability, size, folder, findings, whole=not sequential)
        scores.append(load_paired_records(ability, folder).ability_scores(record["practised"].get(name)))
    looks = LOOKS if sequential else 1
    if not 0 < settings["resamples"] <= MAX_RESAMPLES:
        raise DataError(f"{folder}: settings.resamples in gate.json must be from 1 to {MAX_RESAMPLES:,}")
    result = judge(scores, limits, resamples=settings["resamples"], seed=settings["seed"], looks=looks)
    recomputed = {"abilities": abilities_record(result), "gate": gate_record(result, limits)}
    for key, value in recomputed.items():
        findings.figures += 1
        findings.expect(f"gate.json, {key}", record[key], value)


def _user_questions(folder: Path) -> Questions:
    stored = read_json(folder / "questions.json")["questions"]
    return Questions([Question.model_validate(question) for question in stored])
