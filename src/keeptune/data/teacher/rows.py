"""Replaces texts of training rows with texts of the teacher model. This step runs between the split and the card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

from keeptune.config.data import DataSection
from keeptune.config.teacher import TeacherSection
from keeptune.data.selection import Candidate, digest
from keeptune.data.solution_rendering import CountTokens, PreparedRow
from keeptune.data.teacher.prompts import describe_rounding
from keeptune.data.teacher.text_generation import TeacherTask, generate_texts
from keeptune.files import write_json
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.progress import Reporter
from keeptune.skills.arithmetic.kinds import ENGLISH
from keeptune.skills.base import Skill

ANSWERS_FILE, SUMMARY_FILE = "writer.jsonl", "writer.json"


def apply_teacher_texts(
    train: Sequence[PreparedRow],
    candidates: Mapping[str, Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
    directory: Path,
    reporter: Reporter,
) -> list[PreparedRow]:
    """Return the training rows in order, with the accepted teacher texts. Without `data.teacher`, nothing changes.

    Reasoning replaces the solution. A paraphrase replaces the problem, and also the `id`, which is its digest. The
    server's answers and a summary are written to `directory`. Raises the errors of `generate_texts`.

    Args:
        candidates: the candidates of all rows, including dev and test, by the id of the row.
    """
    teacher = section.teacher
    if teacher is None:
        return list(train)
    eligible = {row.id: row for row in train if _is_eligible(row, candidates[row.id], teacher)}
    tasks = [_build_task(row, candidates, skill, section, count_tokens) for row in eligible.values()]
    result = generate_texts(tasks, teacher, directory / ANSWERS_FILE, reporter)
    write_json(directory / SUMMARY_FILE, {"model": teacher.model, "task": teacher.task, **asdict(result.summary)})
    return [_replace_text(row, result.texts.get(row.problem), teacher, count_tokens) for row in train]


def summarize_teacher_texts(directory: Path) -> list[str]:
    """Return the summary in `directory` as lines of text, or no lines if no teacher model was used."""
    path = directory / SUMMARY_FILE
    if not path.is_file():
        return []
    summary = json.loads(path.read_text(encoding="utf-8"))
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.2f}"
    lines = [
        f"{summary['model']}, {summary['task']}: {summary['accepted']:,} of {summary['problems']:,} texts verified; "
        f"{summary['asked']:,} requests, {summary['from_cache']:,} from the cache{cost}"
    ]
    return lines + [f"rejected: {count:,} × {reason}" for reason, count in summary["rejected"].items()]


def _is_eligible(row: PreparedRow, candidate: Candidate, teacher: TeacherSection) -> bool:
    """Return whether a text is requested. A paraphrase is verified by a calculation, so its answer must be a number.

    The teacher model sees one problem, so conversations keep their texts.
    """
    if row.conversation is not None:
        return False
    is_verifiable = teacher.task == "reasoning" or isinstance(candidate.question.truth, Fraction)
    return is_verifiable and (not teacher.kinds or row.kind in teacher.kinds)


def _build_task(
    row: PreparedRow,
    candidates: Mapping[str, Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
) -> TeacherTask:
    """Return the task for the teacher model to write a text for a row."""
    candidate, rounding = candidates[row.id], section.rounding.for_kind(row.kind)
    final_line = skill.render_solution(candidate.question, candidate.solution, "answer", rounding)
    # An English problem itself specifies the form of its answer.
    answer_format = "in the form that the problem asks for" if row.kind == ENGLISH else describe_rounding(rounding)
    is_reasoning = section.teacher is not None and section.teacher.task == "reasoning"

    def find_obstacle(text: str) -> str | None:
        if not is_reasoning and digest(text).hex() in candidates:
            # The other row may be in dev or test.
            return "the problem of another row"
        ((prompt, solution),) = count_tokens([(row.problem, text) if is_reasoning else (text, row.solution)])
        return "too long" if prompt + solution > section.max_tokens else None

    answer = final_line.removeprefix(ANSWER_MARKER).strip()
    return TeacherTask(candidate.question, answer, answer_format, find_obstacle)


def _replace_text(
    row: PreparedRow, text: str | None, teacher: TeacherSection, count_tokens: CountTokens
) -> PreparedRow:
    if text is None:
        return row
    if teacher.task == "reasoning":
        changed = replace(row, solution=text)
    else:
        changed = replace(row, problem=text, id=digest(text).hex())
    ((prompt_tokens, solution_tokens),) = count_tokens([(changed.problem, changed.solution)])
    return replace(changed, prompt_tokens=prompt_tokens, solution_tokens=solution_tokens)
