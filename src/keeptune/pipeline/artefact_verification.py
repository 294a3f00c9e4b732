"""Verifies what a run stores about its artefacts, and the files of an export, without a model."""

from __future__ import annotations

from pathlib import Path

from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.reading_score import SQUAD
from keeptune.evaluation.skill_score import grade_fields
from keeptune.evaluation.verdict_verification import Findings, check_grades, check_items
from keeptune.files import Record, file_sha256, read_json, read_records, sha256_if_file
from keeptune.grading.number import parse_truth
from keeptune.grading.squad import score_squad_v11
from keeptune.pipeline.artefact_files import find_files, stored_and_current
from keeptune.pipeline.artefact_result import READING_FILE, SKILL_FILE, ability_file, compute_figures
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.final_evaluation import SKILL
from keeptune.prompts.reading import first_line
from keeptune.run_files.artefact import EXPORT_FILE, Artefact


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return (folder / EXPORT_FILE).is_file()


def check_export(folder: Path, findings: Findings) -> None:
    """The files of an export are those that `keeptune export` wrote."""
    for name, stored, current in stored_and_current(find_files(str(folder))):
        findings.hashes += 1
        findings.expect(f"{EXPORT_FILE}, files.{name}", stored, current)


def check_artefacts(context: RunContext, findings: Findings, absent: list[str]) -> None:
    """Hashes, grades, figures and verdicts of all artefacts of a run.

    Files of artefacts that are no longer there are added to `absent`.
    """
    for path in context.directory.artefact_files():
        _check_artefact(context, path, read_json(path, Artefact), findings, absent)


def _check_artefact(context: RunContext, path: Path, stored: Record, findings: Findings, absent: list[str]) -> None:
    place = context.directory.relative(path)
    findings.hashes += len(stored["hashes"]) + len(stored["files"]) + 1
    adapter = file_sha256(context.directory.adapter_weights)
    findings.expect(f"{place}, adapter_sha256", stored["adapter_sha256"], adapter)
    for name, sha256 in stored["files"].items():
        if (current := sha256_if_file(Path(name))) is not None:
            findings.expect(f"{place}, files.{name}", sha256, current)
        else:
            absent.append(name)
    for name, sha256 in stored["hashes"].items():
        findings.expect(f"{place}, hashes.{name}", sha256, sha256_if_file(path.parent / name))
    if stored["skill"] is not None:
        _check_answers(context, path.parent, stored, findings)
    for key, value in compute_figures(context, path.parent, stored).items():
        findings.figures += 1
        findings.expect(f"{place}, {key}", stored[key], value)


def _check_answers(context: RunContext, folder: Path, stored: Record, findings: Findings) -> None:
    """The answers are to the run's questions, and their grades follow from them."""
    final, place = context.final, context.directory.relative(folder)
    before, after = final.records(SKILL, "tuned"), read_records(folder / SKILL_FILE)
    expected = [[record[key] for key in ("id", "problem", "prompt", "truth")] for record in before]
    stored_questions = [[record[key] for key in ("id", "problem", "prompt", "truth")] for record in after]
    findings.expect_each(f"{place}/{SKILL_FILE}, questions", stored_questions, expected)
    for record in after:
        truth = record["truth"] if final.grader else parse_truth(record["truth"])
        graded = grade_fields(record["output"], truth, record["kind"], record["problem"], final.grader)
        findings.answers += 1
        for key, value in graded.items():
            if key != "source":
                findings.expect(f"{place}/{SKILL_FILE}, {record['id']}, {key}", record.get(key), value)
    _check_reading(folder, place, findings)
    for name in stored["abilities"]:
        ability, path = ABILITIES[name], ability_file(folder, name)
        if path.is_file():
            records = read_records(path)
            check_items(ability, stored["size"], context.directory.relative(path), records, findings)
            check_grades(ability, context.directory.relative(path), records, findings)


def _check_reading(folder: Path, place: str, findings: Findings) -> None:
    path = folder / READING_FILE
    for record in read_records(path) if path.is_file() else ():
        prediction = first_line(record["output"])
        scores = score_squad_v11(prediction, record["references"])
        findings.answers += 1
        expected = {"prediction": prediction, SQUAD: {"f1": 100 * scores.f1, "em": 100 * scores.em}}
        for key, value in expected.items():
            findings.expect(f"{place}/{READING_FILE}, {record['id']}, {key}", record[key], value)
