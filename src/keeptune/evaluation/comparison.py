"""Runs side by side: what each reached and cost, and whether the differences are more than chance.

Two accuracies differ by luck alone if they come from different questions. So differences are taken question by
question, and runs that were scored on different questions are refused, unless they are only to be listed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keeptune.errors import RunError
from keeptune.evaluation import contest_leaderboard as leaderboard
from keeptune.evaluation import reading as retained
from keeptune.evaluation.statistics import BoolArray, FloatArray, mcnemar, paired_difference
from keeptune.files import read_json, read_records
from keeptune.grading.number import HEADLINE

Record = dict[str, Any]

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run: its figures, and the tuned model's answers."""

    folder: Path
    result: Record
    skill: list[Record]
    retained: list[Record]

    @classmethod
    def of(cls, folder: Path) -> Finished:
        """The run in `folder`. errors: RunError when it is not finished."""
        skill, kept = (read_records(folder / "scores" / f"{what}-tuned.jsonl") for what in ("skill", "retained"))
        return cls(folder, read_json(folder / "result.json"), skill, kept)


def compare(folders: Sequence[Path], other_questions: bool = False) -> Record:
    """Each run's figures, and its paired differences from the first run: skill, F1 and EM in percent points.

    With `other_questions`, a run that was asked other questions than the first has no differences.

    errors: RunError for an unfinished run, or other questions without `other_questions`.
    """
    first, *others = (Finished.of(folder) for folder in folders)
    rows = [_figures(first)]
    for other in others:
        what = _asked_differently(first, other)
        if what and not other_questions:
            raise RunError(
                f"{first.folder} and {other.folder} were scored on different {what} questions, so their scores cannot "
                "be compared; score both on the same, or pass --other-questions to list them without differences"
            )
        rows.append({**_figures(other), "difference": None if what else _difference(first, other)})
    return {"first": str(first.folder), "runs": rows}


def text(made: Record) -> str:
    """The comparison for people to read."""
    lines = [f"{'':24} right    95 %          F1     EM  gate       trained    tokens  contest 1     2"]
    for row in made["runs"]:
        low, high = (100 * bound for bound in row["skill"]["ci95"])
        kept, ratio = row["retained"], row["parameters"]["ratio"]
        lines.append(
            f"{row['run'][-24:]:24} {row['skill']['accuracy']:5.1%}  {low:5.1f}–{high:5.1f}  {kept['f1']:5.1f}  "
            f"{kept['em']:5.1f}  {row['gate']:9}  {ratio:7.3%}  {row['cost']['tokens_useful']:8,}  "
            f"{row['contest']['phase1']:9.4f}  {row['contest']['phase2']:.4f}"
        )
    if len(made["runs"]) > 1:
        lines += ["", f"differences from {made['first']}, question by question, in points"]
    for row in made["runs"][1:]:
        lines.append(f"{row['run'][-24:]:24} {_differences(row['difference'])}")
    return "\n".join(lines)


class Standing(NamedTuple):
    """A line of the contest's leaderboard, a published one or a run's."""

    score: float
    name: str
    accuracy_percent: float
    ratio: float


def standings(made: Record) -> list[Standing]:
    """The contest's leaderboard, with the runs of a comparison where their scores would stand; the best first."""
    rows = [Standing(entry.score, entry.team, entry.accuracy_percent, entry.ratio) for entry in leaderboard.PHASE1]
    for row in made["runs"]:
        accuracy, ratio = 100 * row["skill"]["accuracy"], row["parameters"]["ratio"]
        rows.append(Standing(row["contest"]["phase1"], f"→ {row['run']}, {row['model']}", accuracy, ratio))
    return sorted(rows, reverse=True)


def published(made: Record) -> str:
    """The leaderboard for people to read."""
    lines = [
        "score   right    trained  phase 1 of the contest: LLaMA3-8B, its own test rows; → ours, on other questions"
    ]
    for score, name, accuracy, ratio in standings(made):
        lines.append(f"{score:.4f}  {accuracy:5.2f} %  {ratio:.4%}  {name}")
    return "\n".join(lines)


def _differences(difference: Record | None) -> str:
    if difference is None:
        return "other questions"
    parts = [
        f"{name} {own['point']:+.1f} ({own['low95']:+.1f} to {own['high95']:+.1f})"
        for name, own in difference.items()
        if name != "mcnemar_p"
    ]
    return f"{', '.join(parts)}; McNemar p = {difference['mcnemar_p']:.2g}"


def _figures(run: Finished) -> Record:
    made = run.result
    tuned = made["skill"]["tuned"]
    return {
        "run": str(run.folder),
        "model": made["model"],
        "skill": {key: tuned[key] for key in ("accuracy", "n", "ci95", "by_kind")},
        "retained": {key: made["retained"]["tuned"][key] for key in ("f1", "em", "n")},
        "ratio": made["retained"]["ratio"],
        "gate": made["gate"]["verdict"],
        "threshold": made["gate"]["threshold"],
        "parameters": made["parameters"],
        "contest": made["contest"],
        "cost": made["cost"],
    }


def _asked_differently(first: Finished, other: Finished) -> str | None:
    """Which questions are not the same for both, by their text; None when all are."""
    pairs = {"skill": (first.skill, other.skill), "reading": (first.retained, other.retained)}
    keys = {"skill": ("id", "problem"), "reading": ("id", "question", "prompt")}
    for what, runs in pairs.items():
        asked = [[tuple(record[key] for key in keys[what]) for record in records] for records in runs]
        if sorted(asked[0]) != sorted(asked[1]):
            return what
    return None


def _difference(first: Finished, other: Finished) -> Record:
    before, after = _in_order(first.skill), _in_order(other.skill)
    old, new = _in_order(first.retained), _in_order(other.retained)
    was, now = _right(before), _right(after)
    names = [record["id"] for record in before]
    made: Record = {"skill": _points(was.astype(np.float64), now.astype(np.float64), names)}
    for measure in ("f1", "em"):
        scores = retained.points(old, measure), retained.points(new, measure)
        made[measure] = _points(*scores, retained.clusters(old))
    return {**made, "mcnemar_p": mcnemar(was, now).p_value}


def _in_order(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: str(record["id"]))


def _right(records: Sequence[Record]) -> BoolArray:
    return np.array([record["verdicts"][HEADLINE] for record in records], np.bool_)


def _points(before: FloatArray, after: FloatArray, clusters: Sequence[Hashable]) -> Record:
    found = paired_difference(before, after, clusters, resamples=RESAMPLES, seed=0)
    return {name: 100 * getattr(found, name) for name in ("point", "low95", "high95")}
