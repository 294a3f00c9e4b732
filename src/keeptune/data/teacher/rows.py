"""Training rows with texts of another model in them: the step between the split and the card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

from keeptune.config.data import DataSection
from keeptune.config.teacher import TeacherSection
from keeptune.data.selection import Candidate, digest
from keeptune.data.solution_rendering import CountTokens, Example
from keeptune.data.teacher.wording import form
from keeptune.data.teacher.write import Wanted, write
from keeptune.files import write_json
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.progress import Listener
from keeptune.skills.arithmetic.kinds import ENGLISH
from keeptune.skills.base import Skill

ANSWERS_FILE, SUMMARY_FILE = "writer.jsonl", "writer.json"


def with_written_texts(
    train: Sequence[Example],
    candidates: Mapping[str, Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
    directory: Path,
    listener: Listener,
) -> list[Example]:
    """The training rows in their order, those with an accepted text changed; as they are without `data.teacher`.

    Reasoning takes the place of the solution, a paraphrase that of the problem; it has another `id`, as that is the
    hash of the problem. `candidates` has the origin of each row, dev and test included, by its id. The server's
    answers and a summary of them are left in `directory`.

    errors: as of `write`.
    """
    teacher = section.teacher
    if teacher is None:
        return list(train)
    chosen = {example.id: example for example in train if _is_chosen(example, candidates[example.id], teacher)}
    wanted = [_wanted(example, candidates, skill, section, count_tokens) for example in chosen.values()]
    written = write(wanted, teacher, directory / ANSWERS_FILE, listener)
    write_json(directory / SUMMARY_FILE, {"model": teacher.model, "task": teacher.task, **asdict(written.summary)})
    return [_changed(example, written.texts.get(example.problem), teacher, count_tokens) for example in train]


def writer_summary(directory: Path) -> list[str]:
    """What another model has written for the rows in `directory`, in lines for people; none where it was not asked."""
    path = directory / SUMMARY_FILE
    if not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    cost = "" if told["cost"] is None else f", cost {told['cost']:.2f}"
    lines = [
        f"{told['model']}, {told['task']}: {told['accepted']:,} of {told['problems']:,} texts proven; "
        f"{told['asked']:,} requests, {told['from_cache']:,} from the cache{cost}"
    ]
    return lines + [f"refused: {count:,} × {reason}" for reason, count in told["rejected"].items()]


def _is_chosen(example: Example, candidate: Candidate, teacher: TeacherSection) -> bool:
    """Whether a text is asked for. A paraphrase is proven by a calculation, so the answer has to be a number."""
    provable = teacher.task == "reasoning" or isinstance(candidate.question.truth, Fraction)
    return provable and (not teacher.kinds or example.kind in teacher.kinds)


def _wanted(
    example: Example,
    candidates: Mapping[str, Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
) -> Wanted:
    """The row as a problem to have a text for."""
    candidate, rounding = candidates[example.id], section.rounding.for_kind(example.kind)
    final_line = skill.render_solution(candidate.question, candidate.solution, "answer", rounding)
    # An English problem says itself in what form it wants its answer.
    how = "in the form that the problem asks for" if example.kind == ENGLISH else form(rounding)
    reasoning = section.teacher is not None and section.teacher.task == "reasoning"

    def obstacle(text: str) -> str | None:
        if not reasoning and digest(text).hex() in candidates:
            # It may be one that is held back.
            return "the problem of another row"
        ((prompt, solution),) = count_tokens([(example.problem, text) if reasoning else (text, example.solution)])
        return "too long" if prompt + solution > section.max_tokens else None

    return Wanted(candidate.question, final_line.removeprefix(ANSWER_MARKER).strip(), how, obstacle)


def _changed(example: Example, text: str | None, teacher: TeacherSection, count_tokens: CountTokens) -> Example:
    if text is None:
        return example
    if teacher.task == "reasoning":
        changed = replace(example, solution=text)
    else:
        changed = replace(example, problem=text, id=digest(text).hex())
    ((prompt_tokens, solution_tokens),) = count_tokens([(changed.problem, changed.solution)])
    return replace(changed, prompt_tokens=prompt_tokens, solution_tokens=solution_tokens)
