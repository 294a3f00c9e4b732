"""The metadata of a README.md that the Hugging Face hub reads: YAML header with model-index, and `.eval_results/`.

Format of the header: https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Format of `.eval_results/*.yaml`:
https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from keeptune.export.measurements import Measurements
from keeptune.files import write_text
from keeptune.models.load import EMBEDDED, EMBEDDED_HUB_ID
from keeptune.run_files.retention import Ability

TASK = "text-generation"
SUITE_TYPE = "keeptune-retention-suite"
"""The `dataset.type` of the suite's abilities in model-index; the suite is no data set of the hub."""

LIBRARIES = {"peft": "peft", "vllm": "peft", "merged": "transformers", "gguf": "gguf", "gguf-lora": "gguf"}
"""The hub's library name, by form of export. The hub has none for the other forms."""

MEASURED_FORM = "peft"
"""The form with the files that were evaluated."""

ADAPTER_FORMS = frozenset({"peft", "vllm", "gguf-lora"})
"""Forms that need the base model."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set that the hub lists as a benchmark, with the task of its `eval.yaml` and its number of questions."""

    dataset: str
    task: str
    questions: int


BENCHMARKS = {"openai/gsm8k": Benchmark("openai/gsm8k", "gsm8k", 1_319)}
"""Benchmarks whose whole test split a run can be evaluated on. The hub rejects results on other data sets."""

HARNESS_BENCHMARKS = {"gsm8k": BENCHMARKS["openai/gsm8k"]}
"""Tasks of lm-evaluation-harness that are such a benchmark."""

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a header states besides the measurements.

    Attributes:
        name: the name of the model.
        form: the form of the export.
        model: the base model, as in the recipe.
        license: the license of the base; empty if unknown.
        skill: the skill that was trained.
        datasets: data sets of the hub among the training data.
        family: PEFT's name of the adapter family, such as LORA; empty if unknown.
    """

    name: str
    form: str
    model: str
    license: str
    skill: str
    datasets: list[str]
    family: str


def hub_name(model: str) -> str | None:
    """The name of a base model on the hub; None for a folder or file."""
    if model == EMBEDDED:
        return EMBEDDED_HUB_ID
    return None if model.startswith((".", "/", "~")) or Path(model).expanduser().exists() else model


def header(facts: CardFacts, measurements: Measurements | None) -> str:
    """The YAML header of README.md, between its `---` lines. Only the adapter itself gets a model-index."""
    is_chinese = measurements is not None and measurements.skill is not None and measurements.skill.is_chinese
    base = hub_name(facts.model)
    # Other forms have other weights or run in other programs, so the figures are not theirs.
    results = list(_results(facts, measurements)) if measurements and facts.form == MEASURED_FORM else []
    relation: dict[str, Any] = {}
    if base:
        relation["base_model_relation"] = "adapter" if facts.form in ADAPTER_FORMS else "finetune"
    tags = ["keeptune", facts.family.lower(), facts.skill]
    data = ModelCardData(
        base_model=base,
        library_name=LIBRARIES.get(facts.form),
        license=facts.license or None,
        language=["zh"] if is_chinese else None,
        datasets=facts.datasets or None,
        pipeline_tag=TASK,
        tags=[tag for tag in tags if tag],
        model_name=facts.name if results else None,
        eval_results=results or None,
        **relation,
    )
    return f"---\n{data.to_yaml()}\n---"


def write_eval_results(measurements: Measurements, folder: Path) -> None:
    """Writes `.eval_results/NAME.yaml` for each benchmark of the hub that was evaluated on its whole test split."""
    for benchmark, value, notes in _benchmark_values(measurements):
        entry = EvalResultEntry(
            dataset_id=benchmark.dataset,
            task_id=benchmark.task,
            value=round(value, 2),
            date=measurements.finished,
            notes=notes,
        )
        text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
        write_text(folder / ".eval_results" / f"{benchmark.task}.yaml", text)


def _benchmark_values(measurements: Measurements) -> Iterator[tuple[Benchmark, float, str]]:
    """Yields benchmark, score in percent, and how it was measured. A run has at most one score per benchmark."""
    skill = measurements.skill
    done: set[str] = set()
    for name, benchmark in BENCHMARKS.items():
        if skill is None or [_test_set(file) for file in skill.test_files] != [name]:
            continue
        if skill.tuned.n == benchmark.questions:
            done.add(benchmark.task)
            yield benchmark, _PERCENT * skill.tuned.accuracy, "keeptune, stored prompt, zero-shot, greedy decoding"
    for name, benchmark in HARNESS_BENCHMARKS.items():
        task = measurements.tasks.get(name)
        if task is not None and task.n == benchmark.questions and benchmark.task not in done:
            yield benchmark, task.tuned, f"lm-evaluation-harness, task {name}, {task.metric}"


def _test_set(name: str) -> str:
    """The data set's name in hf:NAME@CONFIGURATION#test; empty for another split or a file."""
    repository, _, split = name.partition("#")
    return repository.removeprefix("hf:").partition("@")[0] if name.startswith("hf:") and split == "test" else ""


def _results(facts: CardFacts, measurements: Measurements) -> Iterator[EvalResult]:
    """The entries of model-index: the skill, and each ability with its base score, interval and status."""
    skill, suite = measurements.skill, measurements.suite
    if skill:
        grader = getattr(skill.tuned, "grader", None)
        figures: dict[str, Any] = {"n": skill.tuned.n, **_interval(*skill.tuned.ci95)}
        figures |= {"base": _round(skill.base.accuracy)} if skill.base else {}
        yield EvalResult(
            task_type=TASK,
            dataset_type=facts.skill,
            dataset_name=f"{facts.skill}: {skill.problems}",
            dataset_split="test",
            metric_type="accuracy" if grader is None else str(grader),
            metric_value=_round(skill.tuned.accuracy),
            metric_args=figures,
        )
    for name, ability in measurements.abilities.items():
        measure, values = ability.decisive
        if not isfinite(values.tuned):
            continue
        yield EvalResult(
            task_type=TASK,
            dataset_type=SUITE_TYPE,
            dataset_name=f"keeptune retention suite: {name}",
            dataset_config=name,  # the hub merges entries with equal type, configuration, split and revision
            dataset_args={"size": suite.size, "version": suite.version} if suite else None,
            dataset_revision=suite.sha256 if suite else None,
            metric_type=measure or ("nats per token" if values.kind == "loss" else "score"),
            metric_value=_round(values.tuned),
            metric_args=_ability_figures(ability),
        )


def _ability_figures(ability: Ability) -> dict[str, Any]:
    _, values = ability.decisive
    compared = "tuned_over_base" if values.kind == "score" else "tuned_minus_base"
    figures: dict[str, Any] = {"n": values.n, "base": _round(values.base)}
    if isfinite(values.point):
        figures |= {compared: _round(values.point), **_interval(values.low95, values.upper)}
    return figures | {"status": ability.status, "counted": ability.counted}


def _round(value: float) -> float | None:
    return round(value, 4) if isfinite(value) else None


def _interval(low: float, high: float) -> dict[str, float]:
    """The 95 % interval; an end that is not finite is left out."""
    ends = {"low95": low, "high95": high}
    return {name: round(value, 4) for name, value in ends.items() if isfinite(value)}
