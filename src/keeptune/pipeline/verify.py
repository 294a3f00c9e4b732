"""Verifies a run: recomputes every figure from the stored answers, without a model.

Answers are graded again, and true answers are computed again from the problems. Figures of result.json and hashes of
the manifest are recomputed. Questions are compared with the data, the reading set and the texts that the recipe names,
where these files exist. Each difference is reported with its place, its stored value and its recomputed value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import takewhile, zip_longest
from math import isclose
from pathlib import Path
from typing import Any

from keeptune.data.card import data_sha256
from keeptune.data.preparation import load_prepared_rows
from keeptune.data.split import SPLITS
from keeptune.environment import git_state
from keeptune.errors import DataError, ModelError
from keeptune.evaluation.harness import QUESTION_KEYS
from keeptune.evaluation.model_pair import VARIANTS
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.reading_score import CONTEST, SQUAD
from keeptune.evaluation.skill_score import grade_fields
from keeptune.evaluation.unchanged_prompts import state_differences, suite_prompts
from keeptune.evaluation.verdict_verification import check_answers, check_gate_folder
from keeptune.files import Record, file_sha256, read_json, stored_content
from keeptune.grading.base import Grader
from keeptune.grading.contest_reading import score_contest
from keeptune.grading.number import parse_truth
from keeptune.grading.squad import score_squad_v11
from keeptune.models import adapter_metadata
from keeptune.models.base_identity import identify
from keeptune.pipeline.artefact_verification import check_artefacts, check_export, is_export
from keeptune.pipeline.evaluation_stage import tuned_generator
from keeptune.pipeline.final_evaluation import SKILL, TASKS, UNCHANGED
from keeptune.pipeline.gate_job import FILE as GATE_FILE
from keeptune.pipeline.input_files import stored_sources
from keeptune.pipeline.report_stage import compute_result
from keeptune.pipeline.run import Run
from keeptune.pipeline.run_manifest import hashed_files
from keeptune.prompts.chat import ChatLayout
from keeptune.prompts.reading import ReadingLayout, first_line, question_text
from keeptune.run_files.directory import ADAPTER_CONFIG, RunDirectory
from keeptune.run_files.manifest import Manifest
from keeptune.run_files.result import Chosen
from keeptune.skills.base import Skill
from keeptune.skills.registry import skill_for_section

_SHOWN, _SHOWN_BEFORE = 80, 20

_ADDED_LATER = {"data/card.json", "data/rejected.jsonl"}
"""Files whose hashes are missing in the manifests of older versions."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A stored value that differs from the recomputed one."""

    place: str
    stored: Any
    recomputed: Any

    def __str__(self) -> str:
        stored, recomputed = self.stored, self.recomputed
        if isinstance(stored, str) and isinstance(recomputed, str):
            # Long texts, such as prompts, are cut to the surroundings of their first difference.
            same = takewhile(lambda pair: pair[0] == pair[1], zip(stored, recomputed, strict=False))
            start = max(0, sum(1 for _ in same) - _SHOWN_BEFORE)
            stored, recomputed = _around(stored, start), _around(recomputed, start)
        return f"{self.place}: {stored!r} is stored, {recomputed!r} follows"


@dataclass(slots=True)
class Verification:
    """The numbers of checked values, the differences, and the absent files, which were not compared."""

    answers: int = 0
    figures: int = 0
    hashes: int = 0
    faults: list[Fault] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    made_by: str = ""
    checked_by: str = ""

    def expect(self, place: str, stored: Any, recomputed: Any) -> None:
        """Records a fault unless both are equal."""
        if stored != recomputed:
            self.faults.append(Fault(place, stored, recomputed))

    def expect_each(self, place: str, stored: Sequence[Any], recomputed: Sequence[Any]) -> None:
        """Records the first place where two lists differ."""
        for line, pair in enumerate(zip_longest(stored, recomputed), start=1):
            if pair[0] != pair[1]:
                self.faults.append(Fault(f"{place}, line {line}", *pair))
                return


def has_figures(folder: Path) -> bool:
    """Whether a folder is a run or the output of `keeptune gate`. An export has a verdict without its answers."""
    is_export = (folder / ADAPTER_CONFIG).is_file()
    return not is_export and (RunDirectory(folder).is_run or (folder / GATE_FILE).is_file())


def verify(folder: Path) -> Verification:
    """Verifies a finished run with its artefacts, the output folder of `keeptune gate`, or the files of an export.

    The base model's files are hashed, but not loaded. For an adapter with an invocation both models are loaded, and
    their outputs on prompts without the invocation are compared.

    Raises:
        RunError: when a file of the run is missing or damaged.
    """
    code = {"keeptune": metadata.version("keeptune"), "git": git_state(Path(__file__).parent)}
    directory = RunDirectory(folder)
    if (folder / GATE_FILE).is_file() and not directory.is_run:
        return _verify_gate(folder, code)
    if is_export(folder):
        verification = Verification(made_by=_version(code), checked_by=_version(code))
        check_export(folder, verification)
        return verification
    run = Run.open(folder)
    manifest = read_json(directory.manifest, Manifest)
    verification = Verification(made_by=_version(manifest), checked_by=_version(code))
    with stored_content(folder):
        _verify_run(run, manifest, verification)
    return verification


def _verify_run(run: Run, manifest: Mapping[str, Any], verification: Verification) -> None:
    directory = run.directory
    _check_hashes(run, manifest["hashes"], verification)
    _check_sources(run, verification)
    _check_base(run, manifest, verification)
    _check_adapter(run, verification)
    _check_skill(run, verification)
    for what, layout in run.context.final.layouts().items():
        _check_reading(run, what, layout, verification)
    _check_tasks(run, verification)
    _check_texts(run, verification)
    _check_suite(run, verification)
    stored, recomputed_result = read_json(directory.result), compute_result(run.context)
    for place, value, recomputed in _leaves(stored, recomputed_result):
        verification.figures += 1
        if place == "schema_version" and value is None:  # older runs have none
            continue
        if place != "finished" and not _same(value, recomputed):
            verification.faults.append(Fault(f"result.json, {place}", value, recomputed))
    _check_unchanged(run, verification)
    check_artefacts(run.context, verification, verification.absent)


def text(verification: Verification) -> str:
    """The verification as text."""
    faults = verification.faults
    counts = f"{verification.figures} figures and {verification.hashes} hashes recomputed"
    outcome = f"{len(faults)} do not follow" if faults else "all of it follows"
    lines = [f"{verification.answers:,} answers graded again, {counts}: {outcome}"]
    lines += [f"  {fault}" for fault in faults]
    if faults and verification.made_by != verification.checked_by:
        versions = f"made by {verification.made_by}, recomputed by {verification.checked_by}"
        lines.append(f"{versions}: what the code changed differs, too")
    if verification.absent:
        lines.append(f"not here, so not compared: {', '.join(verification.absent)}")
    return "\n".join(lines)


def _around(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut}{'…' if start + _SHOWN < len(text) else ''}"


def _version(facts: Mapping[str, Any]) -> str:
    git = facts.get("git")
    return f"keeptune {facts.get('keeptune')}" + (f" at {git['commit'][:12]}" if git else "")


def _check_hashes(run: Run, stored: Mapping[str, Any], verification: Verification) -> None:
    examples = {part: load_prepared_rows(run.directory.examples(part)) for part in SPLITS}
    recomputed: dict[str, str | None] = {
        "recipe": file_sha256(run.directory.recipe),
        "data": data_sha256(examples),
        "prompt": run.context.prompt.sha256,
        "adapter": file_sha256(run.directory.adapter_weights),
    }
    # Older runs have no hashes of single files, or not of all.
    names = hashed_files(run.context) if any(name.startswith("scores/") for name in stored) else []
    required = {name for name in names if name.startswith(("scores/", "data/"))} - _ADDED_LATER
    recomputed |= {
        name: _hash_if_present(run.directory.root / name) for name in names if name in stored or name in required
    }
    for name, value in recomputed.items():
        verification.hashes += 1
        verification.expect(f"manifest.json, hashes.{name}", stored.get(name), value)


def _hash_if_present(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None


def _check_sources(run: Run, verification: Verification) -> None:
    """The input files are unchanged."""
    sources = stored_sources(run.directory)
    for record, files in (("data/card.json", sources.card), ("inputs.json", sources.others)):
        for source in files:
            if Path(source.file).is_file():
                verification.hashes += 1
                sha256 = file_sha256(Path(source.file))
                verification.expect(f"{record}, sha256 of {source.file}", source.sha256, sha256)
            else:
                verification.absent.append(source.file)


def _check_base(run: Run, manifest: Mapping[str, Any], verification: Verification) -> None:
    """The base model's weights and configuration are those of the training, where the model is on this machine."""
    if manifest.get("base") is None:  # older runs have none
        return
    try:
        current = identify(run.recipe.model.name).model_dump()
    except ModelError as error:
        _not_here(str(error), verification)
        return
    for key in ("weights_sha256", "config_sha256"):
        verification.hashes += 1
        verification.expect(f"manifest.json, base.{key}", manifest["base"].get(key), current[key])


def _check_adapter(run: Run, verification: Verification) -> None:
    """keeptune.json beside the adapter has the prompt of the run and the selected scale."""
    card = read_json(run.directory.adapter / adapter_metadata.FILE)
    chosen = read_json(run.directory.chosen, Chosen)
    verification.expect(
        f"adapter/{adapter_metadata.FILE}, prompt", card["prompt"]["template"], run.context.prompt.template
    )
    verification.expect(f"adapter/{adapter_metadata.FILE}, scale", card["scale"], chosen["scale"])


def _check_skill(run: Run, verification: Verification) -> None:
    """Base and tuned answered the test questions, and the true answers follow from the problems."""
    skill = skill_for_section(run.recipe.data)
    expected = {example.id: example for example in load_prepared_rows(run.directory.examples("test"))}
    for who in VARIANTS:
        file, records = f"scores/{SKILL}-{who}.jsonl", run.context.final.records(SKILL, who)
        verification.expect_each(f"{file}, ids", [record["id"] for record in records], list(expected))
        for record in records:
            place, example = f"{file}, {record['id']}", expected.get(record["id"])
            if example is not None:
                rendered = run.context.prompt.render(example.problem, example.conversation)
                verification.expect(f"{place}, prompt", record["prompt"], rendered)
                verification.expect(f"{place}, truth", record["truth"], _truth(skill, example.problem, example.truth))
            _grade_again(record, place, run.context.final.grader, verification)


def _check_reading(run: Run, what: str, layout: ReadingLayout, verification: Verification) -> None:
    """Base and tuned answered the same questions, those of the reading set where its file exists."""
    file, base, tuned = f"scores/{what}-tuned.jsonl", *(run.context.final.records(what, who) for who in VARIANTS)
    for key in ("id", "prompt"):
        verification.expect_each(f"{file}, {key}s", [record[key] for record in tuned], [record[key] for record in base])
    try:
        expected = {item.question_id: item for item in run.context.final.reading()[1]}
        verification.expect_each(f"{file}, ids", [record["id"] for record in tuned], list(expected))
    except DataError as error:
        expected = {}
        _not_here(str(error), verification)
    for who, records in (("base", base), ("tuned", tuned)):
        for record in records:
            place, item = f"scores/{what}-{who}.jsonl, {record['id']}", expected.get(record["id"])
            if item is not None:
                verification.expect(
                    f"{place}, prompt", record["prompt"], question_text(item.context, item.question, layout)
                )
                verification.expect(f"{place}, references", record["references"], list(item.answers))
            _read_again(record, place, verification)


def _check_tasks(run: Run, verification: Verification) -> None:
    """Base and tuned answered the same harness tasks; lm-evaluation-harness's own scoring is not repeated."""
    base, tuned = (run.context.final.scores(who).tasks for who in VARIANTS)
    for key in QUESTION_KEYS:
        values = [[record[key] for record in records] for records in (tuned, base)]
        verification.expect_each(f"scores/{TASKS}-tuned.jsonl, {key}", *values)


def _check_texts(run: Run, verification: Verification) -> None:
    """Predictions were compared on the texts that the recipe names, where their files exist."""
    records = run.context.final.divergences()
    if not records:
        return
    try:
        expected = {plain_text.id: plain_text.text for plain_text in run.context.final.texts()}
    except DataError as error:
        _not_here(str(error), verification)
        return
    for record in records:
        verification.expect(
            f"scores/drift-tuned.jsonl, {record['id']}, text", record["text"], expected.get(record["id"])
        )


def _check_suite(run: Run, verification: Verification) -> None:
    """Base and tuned answered the items of the suite, and the practised abilities follow from the recipe."""
    size = run.recipe.score.suite
    if size == "none":
        return
    for ability in run.context.final.abilities():
        check_answers(ability, size, run.directory.scores, verification, whole=True)
    stored, recomputed = run.context.final.practised(), practised_by(run.recipe)
    verification.expect("scores/practised.json", {name: stored.get(name) for name in recomputed}, recomputed)


def _check_unchanged(run: Run, verification: Verification) -> None:
    """An adapter with an invocation does not change prompts without it; both models are compared again."""
    if not run.recipe.retain.invocation:
        return
    stored = run.context.final.unchanged()
    prompts = dict(suite_prompts(ChatLayout(run.context.models.tokenizer, run.context.final.fallback)))
    verification.expect_each(f"scores/{UNCHANGED}-tuned.jsonl, ids", [record["id"] for record in stored], list(prompts))
    try:
        model = tuned_generator(run.context).model
    except ModelError as error:
        _not_here(str(error), verification)
        return
    for record in state_differences(model, list(prompts.items())):
        verification.answers += 1
        verification.expect(f"scores/{UNCHANGED}-tuned.jsonl, {record['id']}, difference", 0.0, record["difference"])


def _verify_gate(folder: Path, code: Mapping[str, Any]) -> Verification:
    """Verifies the output folder of `keeptune gate`."""
    stored = read_json(folder / GATE_FILE)
    verification = Verification(made_by=_version(stored), checked_by=_version(code))
    try:
        check_gate_folder(folder, stored, verification)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / GATE_FILE}: a key of gate.json is missing or has the wrong type ({error!r}); restore the file"
        ) from None
    return verification


def _not_here(error: str, verification: Verification) -> None:
    if error not in verification.absent:
        verification.absent.append(error)


def _truth(skill: Skill, problem: str, stored: str) -> str:
    """The true answer computed from the problem; for free text the stored one, which comes from the solution."""
    if skill.grader:
        return stored
    question = skill.parse(problem, "")
    return stored if question is None or question.kind in skill.free_text_kinds else str(question.truth)


def _grade_again(record: Record, place: str, grader: Grader | None, verification: Verification) -> None:
    truth = record["truth"] if grader else parse_truth(record["truth"])
    graded = grade_fields(record["output"], truth, record["kind"], record["problem"], grader)
    verification.answers += 1
    for key, value in graded.items():
        if key != "source":
            verification.expect(f"{place}, {key}", record.get(key), value)


def _read_again(record: Record, place: str, verification: Verification) -> None:
    prediction, references = first_line(record["output"]), record["references"]
    verification.answers += 1
    verification.expect(f"{place}, prediction", record["prediction"], prediction)
    again = {SQUAD: score_squad_v11(prediction, references), CONTEST: score_contest(prediction, references[0])}
    for metric, scores in again.items():
        if record[metric] is not None:
            verification.expect(f"{place}, {metric}", record[metric], {"f1": 100 * scores.f1, "em": 100 * scores.em})


def _leaves(stored: Any, recomputed: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """All leaf values of two trees in pairs; a value that one tree lacks is None."""
    if isinstance(stored, Mapping) and isinstance(recomputed, Mapping):
        for key in [*stored, *(key for key in recomputed if key not in stored)]:
            yield from _leaves(stored.get(key), recomputed.get(key), f"{place}.{key}" if place else str(key))
    elif _is_list(stored) and _is_list(recomputed) and len(stored) == len(recomputed):
        for index, pair in enumerate(zip(stored, recomputed, strict=True)):
            yield from _leaves(*pair, f"{place}[{index}]")
    else:
        yield place, stored, recomputed


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(stored: Any, recomputed: Any) -> bool:
    """Whether two values are equal; floats up to the rounding of another order of summation."""
    if isinstance(stored, float) and isinstance(recomputed, int | float):
        return isclose(stored, recomputed, rel_tol=1e-9, abs_tol=1e-12)
    return bool(stored == recomputed)
