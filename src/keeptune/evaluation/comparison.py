"""Comparison of finished runs: scores, cost, and paired differences with their intervals.

Differences are computed question by question, because two accuracies on different questions can differ by chance alone.
Runs that were scored on different questions are refused, unless they are listed without differences.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keeptune.errors import RunError
from keeptune.evaluation import contest, reading_score
from keeptune.evaluation.statistics import BoolArray, FloatArray, mcnemar, paired_difference
from keeptune.files import Record, read_json, read_records, stored_content
from keeptune.grading.number import HEADLINE
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.records import Answer, ReadingAnswer
from keeptune.run_files.result import Result

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The result.json of a run, and the tuned model's records on the test and reading questions."""

    folder: Path
    result: Record
    skill: list[Record]
    reading: list[Record]

    @classmethod
    def load(cls, folder: Path) -> FinishedRun:
        """Loads the run in `folder`.

        Raises:
            RunError: if the run is not finished.
        """
        directory = RunDirectory(folder)
        skill = read_records(directory.records("skill", "tuned"), Answer)
        reading = read_records(directory.records("retained", "tuned"), ReadingAnswer)
        return cls(folder, read_json(directory.result, Result), skill, reading)


def compare(folders: Sequence[Path], other_questions: bool = False) -> Record:
    """The figures of each run, and its paired differences from the first run in percentage points.

    The differences are in skill accuracy, F1 and EM. With `other_questions`, a run that was scored on other questions
    than the first run is listed without differences.

    Raises:
        RunError: if a run is not finished, or was scored on other questions and `other_questions` is false.
    """
    with stored_content(" and ".join(map(str, folders))):
        return _compare([FinishedRun.load(folder) for folder in folders], other_questions)


def _compare(runs: Sequence[FinishedRun], other_questions: bool) -> Record:
    first, *others = runs
    rows = [_figures(first)]
    for other in others:
        differing = _differing_questions(first, other)
        if differing and not other_questions:
            raise RunError(
                f"{first.folder} and {other.folder} were scored on different {differing} questions, so their scores "
                "cannot be compared; score both on the same questions, or pass --other-questions to list them without "
                "differences"
            )
        rows.append({**_figures(other), "difference": None if differing else _differences(first, other)})
    return {"first": str(first.folder), "runs": rows}


def format_comparison(comparison: Record) -> str:
    """The comparison as a plain text table."""
    lines = [f"{'':24} right    95 %          F1     EM  gate       trained    tokens  contest 1     2"]
    for row in comparison["runs"]:
        low, high = (100 * bound for bound in row["skill"]["ci95"])
        reading, ratio = row["retained"], row["parameters"]["ratio"]
        lines.append(
            f"{row['run'][-24:]:24} {row['skill']['accuracy']:5.1%}  {low:5.1f}–{high:5.1f}  {reading['f1']:5.1f}  "
            f"{reading['em']:5.1f}  {row['gate']:9}  {ratio:7.3%}  {row['cost']['tokens_useful']:8,}  "
            f"{row['contest']['phase1']:9.4f}  {row['contest']['phase2']:.4f}"
        )
    if len(comparison["runs"]) > 1:
        lines += ["", f"paired differences from {comparison['first']}, in percentage points (95 % interval)"]
    for row in comparison["runs"][1:]:
        lines.append(f"{row['run'][-24:]:24} {_format_differences(row['difference'])}")
    return "\n".join(lines)


class LeaderboardRow(NamedTuple):
    """A row of the contest's leaderboard: a published result, or one of keeptune's runs."""

    score: float
    name: str
    accuracy_percent: float
    ratio: float


def leaderboard_rows(comparison: Record) -> list[LeaderboardRow]:
    """The contest's leaderboard with the runs of a comparison inserted by their score, the best first."""
    rows = [
        LeaderboardRow(entry.score, entry.team, entry.accuracy_percent, entry.ratio)
        for entry in contest.PHASE1_LEADERBOARD
    ]
    for row in comparison["runs"]:
        accuracy, ratio = 100 * row["skill"]["accuracy"], row["parameters"]["ratio"]
        rows.append(LeaderboardRow(row["contest"]["phase1"], f"→ {row['run']}, {row['model']}", accuracy, ratio))
    return sorted(rows, reverse=True)


def format_leaderboard(comparison: Record) -> str:
    """The leaderboard as a plain text table."""
    lines = [
        "score   right    trained  contest phase 1: LLaMA3-8B on the contest's test rows; → runs, on other questions"
    ]
    for score, name, accuracy, ratio in leaderboard_rows(comparison):
        lines.append(f"{score:.4f}  {accuracy:5.2f} %  {ratio:.4%}  {name}")
    return "\n".join(lines)


def _format_differences(differences: Record | None) -> str:
    if differences is None:
        return "other questions"
    parts = [
        f"{name} {estimate['point']:+.1f} ({estimate['low95']:+.1f} to {estimate['high95']:+.1f})"
        for name, estimate in differences.items()
        if name != "mcnemar_p"
    ]
    return f"{', '.join(parts)}; McNemar p = {differences['mcnemar_p']:.2g}"


def _figures(run: FinishedRun) -> Record:
    """The figures of a run that a comparison shows."""
    result = run.result
    skill = result["skill"]["tuned"]
    return {
        "run": str(run.folder),
        "model": result["model"],
        "skill": {key: skill[key] for key in ("accuracy", "n", "ci95", "by_kind")},
        "retained": {key: result["retained"]["tuned"][key] for key in ("f1", "em", "n")},
        "ratio": result["retained"]["ratio"],
        "gate": result["gate"]["verdict"],
        "threshold": result["gate"]["threshold"],
        "parameters": result["parameters"],
        "contest": result["contest"],
        "cost": result["cost"],
    }


def _differing_questions(first: FinishedRun, other: FinishedRun) -> str | None:
    """Which questions differ between two runs, "skill" or "reading"; None if all are the same."""
    records_of_both = {"skill": (first.skill, other.skill), "reading": (first.reading, other.reading)}
    keys = {"skill": ("id", "problem"), "reading": ("id", "question", "prompt")}
    for what, both in records_of_both.items():
        questions = [[tuple(record[key] for key in keys[what]) for record in records] for records in both]
        if sorted(questions[0]) != sorted(questions[1]):
            return what
    return None


def _differences(first: FinishedRun, other: FinishedRun) -> Record:
    """Paired differences, other minus first, and the p-value of McNemar's test on the skill."""
    first_skill, other_skill = _by_id(first.skill), _by_id(other.skill)
    first_reading, other_reading = _by_id(first.reading), _by_id(other.reading)
    first_right, other_right = _right(first_skill), _right(other_skill)
    ids = [record["id"] for record in first_skill]
    differences: Record = {
        "skill": _percentage_points(first_right.astype(np.float64), other_right.astype(np.float64), ids)
    }
    for measure in ("f1", "em"):
        before, after = (
            reading_score.per_question_scores(records, measure) for records in (first_reading, other_reading)
        )
        differences[measure] = _percentage_points(before, after, reading_score.paragraph_clusters(first_reading))
    return {**differences, "mcnemar_p": mcnemar(first_right, other_right).p_value}


def _by_id(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: str(record["id"]))


def _right(records: Sequence[Record]) -> BoolArray:
    return np.array([record["verdicts"][HEADLINE] for record in records], np.bool_)


def _percentage_points(before: FloatArray, after: FloatArray, clusters: Sequence[Hashable]) -> Record:
    difference = paired_difference(before, after, clusters, resamples=RESAMPLES, seed=0)
    return {name: 100 * getattr(difference, name) for name in ("point", "low95", "high95")}
