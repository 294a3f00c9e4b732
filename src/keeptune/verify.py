"""Whether a run's figures follow from its answers: everything is recomputed without a model, from the stored files.

A verdict is worth what a sceptic can check. Answers are graded again, truths worked out again from the problems, every
figure of result.json computed again, and every hash of the manifest taken again from the file that it is about. What
does not follow is named with its place, what is stored and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any

from keeptune import recipe as recipes
from keeptune.data.card import data_sha256
from keeptune.data.prepare import load_examples
from keeptune.data.split import PARTS
from keeptune.files import file_sha256, read_json
from keeptune.run import WHO, Run
from keeptune.score.number import grade, truth
from keeptune.score.reading import contest, squad_v11
from keeptune.score.reading_prompt import first_line
from keeptune.score.retained import CONTEST, SQUAD
from keeptune.skill.base import Skill
from keeptune.skill.find import skill_of

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A stored value that does not follow: where it stands, what is there, and what was found instead."""

    place: str
    stored: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.place}: {self.stored!r} is stored, {self.found!r} follows"


@dataclass(slots=True)
class Verification:
    """What was checked, and what does not follow."""

    answers: int = 0
    figures: int = 0
    hashes: int = 0
    faults: list[Fault] = field(default_factory=list)

    def expect(self, place: str, stored: Any, found: Any) -> None:
        """Notes a fault unless both are the same."""
        if stored != found:
            self.faults.append(Fault(place, stored, found))


def verify(folder: Path) -> Verification:
    """What of a finished run follows from its records. The hash of the base weights needs the model, and is left out.

    errors: RunError when a file of the run is missing or damaged.
    """
    run, made = Run.open(folder), Verification()
    answers = {(what, who): run.records(what, who) for what in ("skill", "retained") for who in WHO}
    _check_hashes(run, made)
    _check_questions(run, answers, made)
    for (what, who), records in answers.items():
        check = _grade_again if what == "skill" else _read_again
        for record in records:
            check(record, f"scores/{what}-{who}.jsonl, {record['id']}", made)
    stored, again = read_json(folder / "result.json"), run.result()
    for place, value, found in _leaves(stored, again):
        made.figures += 1
        if place != "finished" and not _same(value, found):
            made.faults.append(Fault(f"result.json, {place}", value, found))
    return made


def text(made: Verification) -> str:
    """The verification for people to read."""
    done = f"{made.answers:,} answers graded again, {made.figures} figures and {made.hashes} hashes recomputed"
    if not made.faults:
        return f"{done}: all of it follows"
    return "\n".join([f"{done}: {len(made.faults)} do not follow", *(f"  {fault}" for fault in made.faults)])


def _check_hashes(run: Run, made: Verification) -> None:
    stored = read_json(run.folder / "manifest.json")["hashes"]
    examples = {part: load_examples(run.folder / "data" / f"{part}.parquet") for part in PARTS}
    found = {
        "recipe": recipes.sha256(run.recipe),
        "data": data_sha256(examples),
        "prompt": run.prompt.sha256,
        "adapter": file_sha256(run.folder / "adapter" / "adapter_model.safetensors"),
    }
    for name, value in found.items():
        made.hashes += 1
        made.expect(f"manifest.json, hashes.{name}", stored.get(name), value)


def _check_questions(run: Run, answers: Mapping[tuple[str, str], list[Record]], made: Verification) -> None:
    """Base and tuned were asked the same, and what was held out, with truths that follow from the problems."""
    skill = skill_of(run.recipe.data)
    wanted = {example.id: example for example in load_examples(run.folder / "data" / "test.parquet")}
    for what in ("skill", "retained"):
        asked = [[(record["id"], record["prompt"]) for record in answers[what, who]] for who in WHO]
        made.expect(f"scores/{what}-tuned.jsonl, questions", asked[1], asked[0])
    records = answers["skill", "tuned"]
    made.expect("scores/skill-tuned.jsonl, ids", [record["id"] for record in records], list(wanted))
    for record in records:
        place, example = f"scores/skill-tuned.jsonl, {record['id']}", wanted.get(record["id"])
        if example is not None:
            made.expect(f"{place}, prompt", record["prompt"], run.prompt.render(example.problem))
            made.expect(f"{place}, truth", record["truth"], _truth(skill, example.problem, example.truth))


def _truth(skill: Skill, problem: str, stored: str) -> str:
    """The answer that follows from the problem; of free text it is known from the solution alone."""
    question = skill.read(problem, "")
    return stored if question is None or question.kind in skill.free_text else str(question.truth)


def _grade_again(record: Record, place: str, made: Verification) -> None:
    graded = grade(record["output"], truth(record["truth"]))
    made.answers += 1
    made.expect(f"{place}, answer", record["answer"], graded.answer)
    made.expect(f"{place}, verdicts", record["verdicts"], dict(graded.verdicts))


def _read_again(record: Record, place: str, made: Verification) -> None:
    prediction, references = first_line(record["output"]), record["references"]
    made.answers += 1
    made.expect(f"{place}, prediction", record["prediction"], prediction)
    again = {SQUAD: squad_v11(prediction, references), CONTEST: contest(prediction, references[0])}
    for metric, scores in again.items():
        if record[metric] is not None:
            made.expect(f"{place}, {metric}", record[metric], {"f1": 100 * scores.f1, "em": 100 * scores.em})


def _leaves(stored: Any, found: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every single value of two trees, side by side; what only one of them has is None in the other."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for key in [*stored, *(key for key in found if key not in stored)]:
            yield from _leaves(stored.get(key), found.get(key), f"{place}.{key}" if place else str(key))
    elif _is_list(stored) and _is_list(found) and len(stored) == len(found):
        for index, pair in enumerate(zip(stored, found, strict=True)):
            yield from _leaves(*pair, f"{place}[{index}]")
    else:
        yield place, stored, found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(stored: Any, found: Any) -> bool:
    """Whether two values are equal, numbers up to what another order of summation may change."""
    if isinstance(stored, float) and isinstance(found, int | float):
        return isclose(stored, found, rel_tol=1e-9, abs_tol=1e-12)
    return bool(stored == found)
