"""`keeptune gate`: the retention verdict for any two models, or for two result files of other programs.

A folder of results holds gate.json, gate.md, gate.xml, the answers of both models and their hashes, so that `verify`
recomputes the verdict without a model.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from keeptune.config.ability_names import ALL
from keeptune.data.preparation import load_prepared_rows
from keeptune.environment import PACKAGES, hardware
from keeptune.errors import RecipeError, RunError
from keeptune.evaluation import answer_divergence, verdict_text
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.questions import GraderSetting, Question, Questions, check_no_overlap, read_questions
from keeptune.evaluation.abilities.registry import abilities_named, suite_sha256
from keeptune.evaluation.external_results import is_result, pair_tasks, read_results
from keeptune.evaluation.gate import AbilityScores, GateResult, Limits, Measurement, judge
from keeptune.evaluation.model_pair import AdapterPair, Pair, find_adapter, open_pair
from keeptune.evaluation.practised import practised_by, practised_by_texts, recipe_beside
from keeptune.evaluation.suite.loader import VERSION, Size
from keeptune.evaluation.suite_evaluation import PairedRecords, evaluate_suite, evaluate_suite_sequentially
from keeptune.evaluation.verdict_record import SCHEMA_VERSION, abilities_record, gate_record
from keeptune.files import (
    Record,
    file_sha256,
    is_vacant,
    read_json,
    remove_temporary_files,
    write_json,
    write_records,
    write_text,
)
from keeptune.generation.record_cache import sha256_of
from keeptune.pipeline.checksums import write_folder_checksums
from keeptune.pipeline.run_lock import run_lock
from keeptune.progress import Reporter, SilentReporter, printable
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RunDirectory
from keeptune.training.distributed import distributed_context

FILE, MARKDOWN_FILE, JUNIT_FILE = "gate.json", "gate.md", "gate.xml"
REQUEST_FILE = "request.json"
"""The file with the request, so that only the same request resumes in a folder."""


@dataclass(frozen=True, slots=True)
class GateRequest:
    """The models to compare, the abilities to compare them on, and the limits of the verdict."""

    base: str
    tuned: str
    abilities: tuple[str, ...] = (ALL,)
    size: Size = "standard"
    questions: Path | None = None
    grader: GraderSetting | None = None
    training_rows: Path | None = None
    sequential: bool = False
    scale: float | None = None
    limits: Limits = field(default_factory=Limits)
    resamples: int = 10_000
    seed: int = 0


def gate(request: GateRequest, out: Path | None = None, reporter: Reporter | None = None) -> Record:
    """The record of gate.json. The same request with the same `out` resumes where it stopped.

    Raises:
        RecipeError: when an ability is unknown, or arguments exclude each other.
        ModelError: when a model cannot be loaded, or the two cannot be compared.
        DataError: when questions or result files cannot be used.
        RunError: when `out` holds another request or other files.
    """
    results = [is_result(Path(name)) for name in (request.base, request.tuned)]
    if all(results):
        record = _from_results(request)
        return _write(record, out) if out else record
    if any(results):
        raise RecipeError(
            "--base and --tuned: one is a result file and the other a model; give two models or two result files"
        )
    trained = _training_texts(request)
    questions = _checked_questions(request, trained)
    abilities = abilities_named(request.abilities, request.size)
    if questions:
        abilities.append(Questions(questions))
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keeptune-gate-")))
        if out and distributed_context().is_main:
            stack.enter_context(run_lock(out))
        _claim(folder, request, questions)
        remove_temporary_files(folder)
        record = _evaluated(request, abilities, trained, folder, reporter or SilentReporter())
        if questions:
            write_json(
                folder / "questions.json", {"questions": [question.model_dump(mode="json") for question in questions]}
            )
            record["questions"] = {"file": str(request.questions), "n": len(questions)}
        record["hashes"] = {
            path.name: file_sha256(path) for path in sorted(folder.glob("*.json*")) if path.name != FILE
        }
        return _write(record, out) if out else record


def gate_models(
    base: str | Path,
    tuned: str | Path,
    *,
    abilities: Sequence[str] = (ALL,),
    suite: Size = "standard",
    questions: Path | None = None,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Record:
    """The content of gate.json. The verdict `["gate"]["verdict"]` is pass, fail or undecided.

    `base` and `tuned` are models or result files. `tuned` may also be an adapter folder or a run directory.
    `questions` is a JSON Lines file with the user's questions.

    Raises:
        as `gate`.
    """
    request = GateRequest(str(base), str(tuned), tuple(abilities), suite, questions)
    return gate(request, out, reporter)


def _evaluated(
    request: GateRequest, abilities: list[Ability], trained: Sequence[str], folder: Path, reporter: Reporter
) -> Record:
    """Evaluates both models and computes the verdict."""
    reporter.stage("load")
    pair = open_pair(request.base, request.tuned, request.scale)
    left_out = _incomparable(request, abilities, pair)
    abilities = [ability for ability in abilities if ability.name not in left_out]
    if not abilities:
        raise RecipeError(f"nothing is left to measure: {'; '.join(left_out.values())}")
    practised = _practised(request, trained)
    reporter.stage("evaluate")
    if request.sequential:
        answers, judged = evaluate_suite_sequentially(
            pair,
            abilities,
            request.size,
            request.limits,
            practised,
            folder,
            reporter,
            resamples=request.resamples,
            seed=request.seed,
        )
    else:
        answers = evaluate_suite(pair, abilities, "final", request.size, folder, reporter)
        judged = judged_answers(answers, practised, request)
    record = _record(request, judged, pair, practised)
    record["left_out"] = left_out
    record["asked"] = {records.ability.name: len(records.base) for records in answers}
    record["kl_on_answers"] = _divergence(request, pair, folder, reporter)
    return record


def judged_answers(answers: Sequence[PairedRecords], practised: dict[str, str], request: GateRequest) -> GateResult:
    """The verdict on complete answers."""
    scores = [records.ability_scores(practised.get(records.ability.name)) for records in answers]
    return judge(scores, request.limits, resamples=request.resamples, seed=request.seed)


def _record(request: GateRequest, judged: GateResult, pair: Pair | None, practised: dict[str, str]) -> Record:
    weights = {variant: pair.cache(variant).fingerprint["weights"] for variant in ("base", "tuned")} if pair else None
    record: Record = {
        "schema_version": SCHEMA_VERSION,
        "base": request.base,
        "tuned": request.tuned,
        "scale": pair.scale if isinstance(pair, AdapterPair) else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["keeptune", *sys.argv[1:]]),
        "keeptune": metadata.version("keeptune"),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
        "weights": weights,
        "suite": {"version": VERSION, "size": request.size, "sha256": suite_sha256(request.size)} if pair else None,
        "settings": {
            "sequential": request.sequential,
            "resamples": request.resamples,
            "seed": request.seed,
            "thresholds": dict(request.limits.thresholds),
            "margins": dict(request.limits.margins),
            "counted": sorted(request.limits.counted) if request.limits.counted is not None else [ALL],
        },
        "practised": practised,
        "abilities": abilities_record(judged),
        "gate": gate_record(judged, request.limits),
    }
    record["remedy"] = verdict_text.suggest_remedy(record)
    return record


def _from_results(request: GateRequest) -> Record:
    """The verdict from result files of lm-evaluation-harness or inspect-ai."""
    if request.questions or request.sequential or request.scale is not None:
        raise RecipeError("result files have fixed questions: leave out --questions, --sequential and --scale")
    base, tuned = (read_results(Path(name)) for name in (request.base, request.tuned))
    tasks, scores = pair_tasks(base, tuned), []
    for task in tasks:
        size = len(task.ids)
        values = Measurement(task.metric, "score", task.base, task.tuned, task.ids, np.ones(size), 0.0, size)
        scores.append(AbilityScores(task.name, [values]))
    judged = judge(scores, request.limits, resamples=request.resamples, seed=request.seed)
    both = {task.name for task in tasks}
    unpaired = {
        task.name: f"only {variant} has it"
        for variant, results in (("base", base), ("tuned", tuned))
        for task in results
    }
    left_out = {name: why for name, why in unpaired.items() if name not in both}
    return {**_record(request, judged, None, {}), "left_out": left_out}


def _checked_questions(request: GateRequest, trained: Sequence[str]) -> list[Question]:
    """The user's questions; none may overlap with known training rows."""
    if request.questions is None:
        if request.grader:
            raise RecipeError("--grader is for --questions FILE; give both")
        return []
    questions = read_questions(request.questions, request.grader)
    check_no_overlap(request.questions, questions, trained, "the training rows")
    return questions


def _training_texts(request: GateRequest) -> list[str]:
    """The training texts of the tuned model, from its run directory or from the file that the user names."""
    if request.training_rows is not None:
        from keeptune.data.reader import RejectedRow, read_rows

        rows = [row for row in read_rows(request.training_rows, conversations=True) if not isinstance(row, RejectedRow)]
        return [text for row in rows for text in (row.problem, row.solution)]
    path = RunDirectory(Path(request.tuned).expanduser()).examples("train")
    examples = load_prepared_rows(path) if path.is_file() else []
    return [text for row in examples for text in (row.problem, row.solution)]


def _practised(request: GateRequest, trained: Sequence[str]) -> dict[str, str]:
    """The abilities that training practised, as far as known from the tuned model's folder."""
    folder = find_adapter(request.tuned)
    recipe = recipe_beside(str(folder)) if folder else None
    return practised_by_texts(trained, "training data") | (practised_by(recipe) if recipe else {})


def _incomparable(request: GateRequest, abilities: Sequence[Ability], pair: Pair) -> dict[str, str]:
    """The abilities on which these two models cannot be compared, each with the reason.

    Raises:
        RecipeError: when the request names one of them.
    """
    if not pair.differing_tokens:
        return {}
    left_out = {
        ability.name: f"{pair.differing_tokens}, so losses per token differ"
        for ability in abilities
        if ability.requires_same_tokens
    }
    requested = [name for name in request.abilities if name in left_out]
    if requested:
        raise RecipeError(
            f"--abilities {requested[0]}: {left_out[requested[0]]}; leave it out, or compare models with one tokenizer"
        )
    return left_out


def _divergence(request: GateRequest, pair: Pair, folder: Path, reporter: Reporter) -> Record:
    """KL(tuned ‖ base) on the tuned model's answers to chat prompts, or why it is not measured."""
    if pair.differing_tokens:
        return {"not_measured": f"{pair.differing_tokens}, so there is no KL divergence between them"}
    if "chat" not in {ability.name for ability in abilities_named(request.abilities, request.size)}:
        return {"not_measured": "the request does not include chat"}
    with pair.using("tuned") as subject:
        prompts = answer_divergence.chat_prompts(subject.layout, answer_divergence.PROMPTS[request.size])
    reporter.info(f"divergence on answers to {len(prompts)} chat prompts, greedy and sampled")
    records = answer_divergence.measure_answer_divergence(pair, prompts, request.seed)
    write_records(folder / "divergence-tuned.jsonl", records)
    return {
        mode: answer_divergence.summarize(records, "chat", mode, request.resamples, request.seed)
        for mode in answer_divergence.MODES
    }


def _claim(folder: Path, request: GateRequest, questions: Sequence[Question]) -> None:
    """Reserves the folder for this request. Raises RunError when it holds another one or other files."""
    content = {
        "base": request.base,
        "tuned": request.tuned,
        "abilities": sorted(request.abilities),
        "size": request.size,
        "sequential": request.sequential,
        "scale": request.scale,
        "seed": request.seed,
        "questions": sha256_of([question.model_dump(mode="json") for question in questions]),
        "adapter": _adapter_hashes(request.tuned),
        "suite": suite_sha256(request.size),
    }
    path = folder / REQUEST_FILE
    if path.is_file():
        if read_json(path) != content:
            raise RunError(f"{folder}: holds the results of another request; choose another folder with --out")
    elif not is_vacant(folder):
        raise RunError(f"{folder}: holds other files; choose an empty or a new folder with --out")
    else:
        write_json(path, content)


def _adapter_hashes(tuned: str) -> list[str]:
    folder = find_adapter(tuned)
    names = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    return [file_sha256(folder / name) for name in names if (folder / name).is_file()] if folder else []


def _write(record: Record, out: Path) -> Record:
    write_json(out / FILE, record)
    write_text(out / MARKDOWN_FILE, printable(verdict_text.format_markdown(record)))
    write_text(out / JUNIT_FILE, printable(verdict_text.format_junit(record)))
    write_folder_checksums(out)
    return record
