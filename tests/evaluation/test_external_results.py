"""Results of lm-evaluation-harness and inspect-ai: formats, pairing and every error.

The lm-eval files of `lm_eval_folders` come from a real run. All others have the format of files that lm-eval 0.4.13
and inspect-ai 0.3.285 wrote.
"""

import copy
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import DataError
from keeptune.evaluation import external_results
from keeptune.evaluation.external_results import ExternalTask, is_result, pair_tasks, read_results

OLD, NEW = "2026-11-29T23-58-53.900716", "2026-11-30T08-00-00.000001"


# --- lm-eval ---


def lm_sample(doc_id: int, **changes: Any) -> dict[str, Any]:
    """One line of samples_*.jsonl, as observed for a multiple-choice task."""
    return {
        "doc_id": doc_id,
        "doc": {"question": f"{doc_id} + 3 =", "choices": ["4", "5"], "answer": 0},
        "target": "0",
        "arguments": {"gen_args_0": {"arg_0": f"{doc_id} + 3 =", "arg_1": " 4"}},
        "resps": [[["-16.11725616455078", "False"]], [["-12.442359924316406", "False"]]],
        "filtered_resps": [["-16.11725616455078", "False"], ["-12.442359924316406", "False"]],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": f"d{doc_id}",
        "prompt_hash": f"p{doc_id}",
        "target_hash": "5feceb66",
        "acc": 0.0,
        "acc_norm": 1.0,
        **changes,
    }


def with_metric(doc_id: int, **metric: Any) -> dict[str, Any]:
    """The same of a task that has this metric only."""
    sample = lm_sample(doc_id, metrics=list(metric), **metric)
    return {key: value for key, value in sample.items() if key not in ("acc", "acc_norm") or key in metric}


def write_samples(folder: Path, samples: list[dict[str, Any]], task: str = "sums", date: str | None = OLD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"samples_{task}_{date}.jsonl" if date else f"samples_{task}.jsonl")
    path.write_text("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples), encoding="utf-8")
    return path


def write_totals(folder: Path, date: str, model_args: Any, stem: str = "results") -> None:
    totals = {"results": {}, "config": {"model": "hf", "model_args": model_args}, "model_name": "base"}
    (folder / f"{stem}_{date}.json").write_text(json.dumps(totals, indent=2), encoding="utf-8")


def lm_tasks(folder: Path) -> list[str]:
    """Files of three local tasks: multiple choice, generation with two filters, and perplexity."""
    rows = [{"question": f"{i} + 1 =", "choices": [str(i + 1 + j) for j in range(3)], "answer": 0} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"data_files": {"test": str(folder / "rows.jsonl")}}
    shared = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "doc_to_text": "{{question}}"}
    filters = {"strict": "^([0-9]+)$", "anywhere": "(.)"}
    tasks: dict[str, dict[str, Any]] = {
        "own_choice": {
            "output_type": "multiple_choice",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": metric} for metric in ("acc", "acc_norm")],
        },
        "own_written": {
            "output_type": "generate_until",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2},
            "doc_to_target": "{{choices[answer]}}",
            "metric_list": [{"metric": "exact_match"}],
            "filter_list": [
                {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
                for name, pattern in filters.items()
            ],
        },
        "own_perplexity": {
            "output_type": "loglikelihood_rolling",
            "doc_to_target": "{{question}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
    }
    for name, task in tasks.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **shared, **task}), encoding="utf-8")
    return list(tasks)


@pytest.fixture(scope="module")
def lm_eval_folders(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Output folders of lm-eval for a base and a tuned model; `perplexity` has the third task of the base."""
    import tiny
    from lm_eval import evaluator
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("lm_eval")
    tasks, manager = lm_tasks(folder), TaskManager(include_path=str(folder))
    models = {"base": tiny.load(model_folder), "tuned": tiny.tune(tiny.load(model_folder))}
    for name, model in models.items():
        results = evaluator.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tiny.tokenizer(), batch_size=4),
            tasks=tasks,
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
        )
        samples = results.pop("samples")
        for output, saved in ((name, tasks[:2]), ("perplexity", tasks[2:])):
            tracker = EvaluationTracker(output_path=str(folder / "out" / output))
            tracker.general_config_tracker.log_experiment_args("hf", f"pretrained=org/{name}", None, None, False)
            tracker.save_results_aggregated(results=results, samples=samples)
            for task in saved:
                tracker.save_results_samples(task_name=task, samples=samples[task])
    return {name: folder / "out" / name for name in ("base", "tuned", "perplexity")}


def test_a_real_run_of_lm_eval_is_read_and_paired(lm_eval_folders: dict[str, Path]) -> None:
    base, tuned = (read_results(lm_eval_folders[name]) for name in ("base", "tuned"))
    assert [(task.name, task.metric) for task in base] == [("own_choice", "acc_norm"), ("own_written", "exact_match")]
    assert [len(set(task.ids)) for task in base] == [12, 12]
    pairs = pair_tasks(base, tuned)
    assert [pair.name for pair in pairs] == ["own_choice", "own_written"]
    assert [pair.base.dtype for pair in pairs] == [np.float64] * 2
    file = next(lm_eval_folders["tuned"].glob("*/samples_own_choice_*"))
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert pairs[0].tuned.tolist() == [line["acc_norm"] for line in lines]


def test_a_real_file_and_both_folder_levels_are_results(lm_eval_folders: dict[str, Path]) -> None:
    folder = lm_eval_folders["base"] / "org__base"
    file = next(folder.glob("samples_own_written_*.jsonl"))
    assert all(is_result(path) for path in (folder.parent, folder, file))
    assert not is_result(next(folder.glob("results_*.json")))
    assert [task.name for task in read_results(file)] == ["own_written"]
    assert read_results(folder) == read_results(folder.parent)


def test_perplexity_is_refused(lm_eval_folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="none of the metrics"):
        read_results(lm_eval_folders["perplexity"] / "org__base")


@pytest.mark.parametrize(
    ("metrics", "metric", "value"),
    [
        ({"acc": 1.0}, "acc", 1.0),
        ({"acc": 1.0, "acc_norm": 0.0}, "acc_norm", 0.0),
        ({"em": 0.0, "f1": 0.25}, "f1", 0.25),
        ({"em": 1}, "em", 1.0),
        ({"prompt_level_strict_acc": True, "inst_level_strict_acc": [True, False]}, "prompt_level_strict_acc", 1.0),
    ],
)
def test_the_first_known_metric_counts(tmp_path: Path, metrics: dict[str, Any], metric: str, value: float) -> None:
    (task,) = read_results(write_samples(tmp_path, [with_metric(0, **metrics)]))
    assert (task.metric, task.values) == (metric, (value,))


def test_only_the_first_filter_counts(tmp_path: Path) -> None:
    samples = [
        with_metric(doc_id, filter=name, exact_match=value)
        for name, value in (("strict", 1.0), ("anywhere", 0.0))
        for doc_id in (0, 1)
    ]
    (task,) = read_results(write_samples(tmp_path, samples))
    assert (task.ids, task.values) == (("0", "1"), (1.0, 1.0))


def test_the_newest_file_of_each_task_counts(tmp_path: Path) -> None:
    for value, date in ((0.0, None), (0.25, "2026-11-29T23-58-53"), (0.5, OLD), (1.0, NEW)):
        write_samples(tmp_path, [lm_sample(0, acc_norm=value)], date=date)
    write_samples(tmp_path, [lm_sample(0, acc_norm=0.75)], task="mmlu_law", date=OLD)
    assert [(task.name, task.values) for task in read_results(tmp_path)] == [("mmlu_law", (0.75,)), ("sums", (1.0,))]


def test_without_hashes_the_document_is_the_fingerprint(tmp_path: Path) -> None:
    hashes = {"doc_hash": None, "prompt_hash": None, "target_hash": None}
    first, second = (
        read_results(write_samples(tmp_path / name, [lm_sample(0, **hashes, doc={"question": name})]))
        for name in ("a", "b")
    )
    with pytest.raises(DataError, match="1 questions differ"):
        pair_tasks(first, second)
    assert len(pair_tasks(first, first)) == 1


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = write_samples(tmp_path, [lm_sample(0)])
    path.write_text(f"\n{path.read_text(encoding='utf-8')}\n\n", encoding="utf-8")
    assert read_results(path)[0].ids == ("0",)


@pytest.mark.parametrize(
    ("samples", "line", "match"),
    [
        ([lm_sample(0, acc_norm=12.5)], 1, "acc_norm must be a number"),
        ([lm_sample(0), lm_sample(1, acc_norm=-0.1)], 2, "acc_norm must be a number"),
        ([lm_sample(0, acc_norm=float("nan"))], 1, "acc_norm must be a number"),
        ([lm_sample(0, acc_norm="1.0")], 1, "acc_norm must be a number"),
        ([with_metric(0, f1=[1, 0])], 1, "f1 must be a number"),
        ([with_metric(0, bleu=0.5)], 1, "none of the metrics"),
        ([lm_sample(0), with_metric(1, exact_match=1.0)], 2, "no acc_norm"),
        ([lm_sample(0), lm_sample(0)], 2, "occurs twice"),
        ([{**lm_sample(0), "doc_id": None}], 1, "no doc_id"),
    ],
)
def test_a_bad_sample_is_named_by_line(tmp_path: Path, samples: list[dict[str, Any]], line: int, match: str) -> None:
    path = write_samples(tmp_path, samples)
    with pytest.raises(DataError, match=match) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("text", "where", "match"),
    [
        (b'{"doc_id": 0, "acc', ":1", "not valid JSON"),
        (b"[1, 2]\n", ":1", "must be a JSON object"),
        (b'{"doc": "\xff\xfe"}\n', ":1", "not valid JSON"),
        (b"[" * 100_000, ":1", "not valid JSON"),
        (b"\n", "", "no samples"),
    ],
)
def test_a_damaged_samples_file_is_refused(tmp_path: Path, text: bytes, where: str, match: str) -> None:
    path = tmp_path / f"samples_sums_{OLD}.jsonl"
    path.write_bytes(text)
    with pytest.raises(DataError, match=match) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}{where}: ")


def test_folders_of_two_models_are_refused(tmp_path: Path) -> None:
    for model in ("base", "tuned"):
        write_samples(tmp_path / model, [lm_sample(0)])
    assert is_result(tmp_path)
    with pytest.raises(DataError, match="results of several models") as caught:
        read_results(tmp_path)
    assert all(str(tmp_path / model) in str(caught.value) for model in ("base", "tuned"))


@pytest.mark.parametrize("stem", ["results", "name"])
def test_two_models_in_one_folder_are_refused(tmp_path: Path, stem: str) -> None:
    """As vLLM writes them, where base and adapter have the same `pretrained`."""
    for date in (OLD, NEW):
        write_samples(tmp_path, [lm_sample(0)], date=date)
        write_totals(tmp_path, date, {"pretrained": "base"}, stem)
    assert len(read_results(tmp_path)) == 1
    write_totals(tmp_path, NEW, {"pretrained": "base", "lora_local_path": "adapter"}, stem)
    with pytest.raises(DataError, match="different model arguments"):
        read_results(tmp_path)


# --- inspect-ai ---


def inspect_sample(sample_id: int | str, value: Any, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    """A sample of an inspect-ai log, as observed."""
    return {
        "id": sample_id,
        "epoch": epoch,
        "input": [{"id": f"random{epoch}{id(changes)}", "content": f"Question {sample_id}", "role": "user"}],
        "target": ["4", "four"],
        "messages": [{"id": "random", "content": "5", "source": "generate", "role": "assistant", "model": "hf/base"}],
        "output": {"model": "hf/base", "choices": [], "completion": "5"},
        "scores": {
            "match": {"value": value, "answer": "5", "explanation": "5", "history": []},
            "includes": {"value": "I", "answer": "5", "explanation": "5", "history": []},
        },
        "metadata": {},
        "store": {},
        "events": [],
        "uuid": "XqMyoRx7xdHofA4ds9K8fV",
        "error_retries": [],
        "attachments": {},
        **changes,
    }


def inspect_log(samples: list[dict[str, Any]], status: str = "success", **changes: Any) -> dict[str, Any]:
    """An inspect-ai log, as observed; `changes` are those of its `eval`."""
    evaluation = {
        "eval_id": "Ug5rWwbv29VLxeH3ghYJzj",
        "run_id": "QFkr8uWFQjH4akP2a8DxSv",
        "created": "2026-11-29T23:58:08+00:00",
        "task": "sums",
        "task_id": "Li3iPXPLACh3aruPeWnRHe",
        "task_version": 0,
        "task_args": {},
        "dataset": {"samples": len(samples), "sample_ids": [sample["id"] for sample in samples], "shuffled": False},
        "model": "hf/local",
        "model_args": {"model_path": "base"},
        "config": {"epochs": 1, "log_samples": True},
        "scorers": [{"name": "match", "options": {}, "metrics": [], "metadata": {}}],
        **changes,
    }
    return {
        "version": 2,
        "status": status,
        "eval": evaluation,
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {"total_samples": len(samples), "completed_samples": len(samples), "scores": []},
        "stats": {},
        "invalidated": False,
        "samples": samples,
        "reductions": [],
    }


def write_log(path: Path, log: dict[str, Any]) -> Path:
    path.write_text(json.dumps(log, indent=2), encoding="utf-8")
    return path


def write_archive(path: Path, log: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same log as an `.eval` archive."""
    parts = {"_journal/start.json": {"version": 2, "eval": log["eval"]}}
    parts |= {f"samples/{sample['id']}_epoch_{sample['epoch']}.json": sample for sample in log["samples"]}
    parts |= {"summaries.json": [], "reductions.json": []}
    parts |= {"header.json": {key: value for key, value in log.items() if key not in ("samples", "reductions")}}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, json.dumps(part, indent=2))
    return path


def patch_headers(path: Path, field: tuple[int, int], content: bytes) -> None:
    """Overwrites a field of all entries, at its offset in the local and in the central header of a zip."""
    data = bytearray(path.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), field, strict=True):
        start = data.find(signature)
        while start >= 0:
            data[start + offset : start + offset + len(content)] = content
            start = data.find(signature, start + 4)
    path.write_bytes(data)


def test_json_and_archive_give_the_same(tmp_path: Path) -> None:
    log = inspect_log([inspect_sample("q2", "C"), inspect_sample(1, "P"), inspect_sample(3, "I")])
    plain, archive = write_log(tmp_path / "log.json", log), write_archive(tmp_path / "log.eval", log)
    assert is_result(plain) and is_result(archive) and is_result(tmp_path)
    (task,) = read_results(plain)
    assert [task] == read_results(archive)
    assert (task.name, task.metric) == ("sums", "match")
    assert (task.ids, task.values) == (("1", "3", "q2"), (0.5, 0.0, 1.0))


@pytest.mark.parametrize(
    ("value", "expected"), [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), (True, 1.0), (False, 0.0), (0.3, 0.3)]
)
def test_grades_numbers_and_booleans(tmp_path: Path, value: Any, expected: float) -> None:
    (task,) = read_results(write_log(tmp_path / "log.json", inspect_log([inspect_sample(1, value)])))
    assert task.values == (expected,)


def test_epochs_are_averaged(tmp_path: Path) -> None:
    samples = [inspect_sample(1, value, epoch) for epoch, value in enumerate(("C", "I", "C", "C"), 1)]
    (task,) = read_results(write_log(tmp_path / "log.json", inspect_log(samples)))
    assert (task.ids, task.values) == (("1",), (0.75,))


def test_named_values_give_a_task_each(tmp_path: Path) -> None:
    """A count and a text are no scores."""
    values = [
        {"strict": True, "loose": "C", "count": 3, "note": "x"},
        {"strict": 0, "loose": "P", "count": 1, "note": ""},
    ]
    samples = [inspect_sample(number, value) for number, value in enumerate(values)]
    tasks = read_results(write_log(tmp_path / "log.json", inspect_log(samples)))
    assert {task.name: task.values for task in tasks} == {"sums/strict": (1.0, 0.0), "sums/loose": (1.0, 0.5)}
    assert {task.metric for task in tasks} == {"match"}


def test_a_retry_replaces_the_log_that_failed(tmp_path: Path) -> None:
    failed = inspect_log([inspect_sample(1, "C", error={"message": "x"}, scores={})], status="error")
    write_log(tmp_path / "b.json", failed)
    # The later time, though the earlier text.
    retry = inspect_log([inspect_sample(1, "I")], created="2026-11-29T19:58:09-05:00")
    write_archive(tmp_path / "a.eval", retry)
    write_log(tmp_path / "c.json", inspect_log([inspect_sample(1, "C")], task="other", created="2026-11-29T23:58:08"))
    (tmp_path / "logs.json").write_text('{"a.eval": {}}', encoding="utf-8")
    assert [(task.name, task.values) for task in read_results(tmp_path)] == [("other", (1.0,)), ("sums", (0.0,))]


@pytest.mark.parametrize(
    "changes", [{"model": "hf/other"}, {"model_args": {"model_path": "tuned"}}, {"task_args": {"subject": "law"}}]
)
def test_logs_of_two_models_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_log(tmp_path / "a.json", inspect_log([inspect_sample(1, "C")]))
    write_log(tmp_path / "b.json", inspect_log([inspect_sample(1, "C")], **changes))
    with pytest.raises(DataError, match="evaluates task sums") as caught:
        read_results(tmp_path)
    assert all(name in str(caught.value) for name in ("a.json", "b.json"))


def test_equal_names_of_two_programs_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "a.json", inspect_log([inspect_sample(1, "C")]))
    write_samples(tmp_path, [lm_sample(0)])
    with pytest.raises(DataError, match="several results are named"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("sample", "match"),
    [
        (inspect_sample("q2", "C", error={"message": "ValueError('boom')", "traceback": ""}), "ended with an error"),
        (inspect_sample("q2", "C", error="boom"), "ended with an error"),
        (inspect_sample("q2", "C", invalidation={"author": "me"}), "marked as invalid"),
        (inspect_sample("q2", "C", scores={}), "has no score"),
        (inspect_sample("q2", "C", scores=None), "has no score"),
        (inspect_sample("q2", "C", scores={"includes": {"value": "C"}}), "has no score of match"),
        (inspect_sample("q2", float("nan")), "has no score of match"),
        (inspect_sample("q2", None), "has no score of match"),
        (inspect_sample("q2", 12.5), "match must be a number"),
        (inspect_sample("q2", "yes"), "match must be a number"),
        (inspect_sample("q2", [1, 0]), "match must be a number"),
        (inspect_sample("q2", {"a": 1}), "has other keys"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_a_bad_sample_is_named_by_id(tmp_path: Path, sample: dict[str, Any], match: str, suffix: str) -> None:
    path, log = tmp_path / f"log{suffix}", inspect_log([inspect_sample(1, "C"), sample])
    (write_log if suffix == ".json" else write_archive)(path, log)
    with pytest.raises(DataError, match=match) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}: sample q2: ")


def test_named_values_without_a_score_are_refused(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.json", inspect_log([inspect_sample(1, {"count": 3, "note": "x"})]))
    with pytest.raises(DataError, match="no key of match"):
        read_results(path)
    write_log(path, inspect_log([inspect_sample(1, {"a": 1}), inspect_sample("q2", {"a": None})]))
    with pytest.raises(DataError, match="sample q2: has no score"):
        read_results(path)


def test_epochs_with_different_inputs_are_refused(tmp_path: Path) -> None:
    samples = [inspect_sample(1, "C"), inspect_sample("1", "C", 2, input="another question")]
    with pytest.raises(DataError, match="epochs have different inputs"):
        read_results(write_log(tmp_path / "log.json", inspect_log(samples)))


@pytest.mark.parametrize("status", ["started", "cancelled", "error"])
def test_an_unfinished_log_is_refused(tmp_path: Path, status: str) -> None:
    path = write_log(tmp_path / "log.json", inspect_log([inspect_sample(1, "C")], status=status))
    with pytest.raises(DataError, match=f"status: {status}"):
        read_results(path)


def test_a_log_without_samples_is_refused(tmp_path: Path) -> None:
    log = inspect_log([])
    for path in (write_log(tmp_path / "log.json", log), write_archive(tmp_path / "log.eval", log)):
        with pytest.raises(DataError, match="has no samples"):
            read_results(path)


@pytest.mark.parametrize(
    "changes", [{"eval": {}}, {"eval": {"task": "sums", "created": "yesterday"}}, {"samples": {"a": 1}}, {"samples": 5}]
)
def test_a_malformed_log_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_log(tmp_path / "log.json", {**inspect_log([inspect_sample(1, "C")]), **changes})
    with pytest.raises(DataError, match="no inspect-ai log"):
        read_results(path)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(DataError, match="not valid JSON"):
        read_results(path)


def test_zstd_needs_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "log.eval", inspect_log([inspect_sample(1, "C")]), zipfile.ZIP_STORED)
    patch_headers(path, (8, 10), (93).to_bytes(2, "little"))
    monkeypatch.setattr(external_results, "_READABLE_COMPRESSION", {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
    with pytest.raises(DataError, match="log convert --to json"):
        read_results(path)


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "log.eval", inspect_log([inspect_sample(1, "C", store={"x": "0" * 10**6})]))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(external_results, "MAX_UNPACKED_BYTES", 10**6)
    with pytest.raises(DataError, match="more than the limit"):
        read_results(path)


def test_no_more_than_the_declared_size_is_unpacked(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "log.eval", inspect_log([inspect_sample(1, "C", store={"x": "0" * 10**6})]))
    patch_headers(path, (22, 24), (100).to_bytes(4, "little"))
    with pytest.raises(DataError):
        read_results(path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    log = inspect_log([inspect_sample(1, "C")])
    path = write_archive(tmp_path / "log.eval", log)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="cannot be read"):
        read_results(path)
    start = whole.index(b"samples/1_epoch_1.json") + 40
    path.write_bytes(whole[:start] + b"\0" * 100 + whole[start + 100 :])
    with pytest.raises(DataError, match="cannot be read"):
        read_results(path)
    write_archive(path, log)
    patch_headers(path, (6, 8), b"\1\0")
    with pytest.raises(DataError, match="cannot be read"):
        read_results(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    with pytest.raises(DataError, match="did not finish"):
        read_results(path)


def test_the_last_entry_of_a_name_counts(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "log.eval", inspect_log([inspect_sample(1, "C")]))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("samples/1_epoch_1.json", json.dumps(inspect_sample(1, "I")))
    assert read_results(path)[0].values == (0.0,)


# --- paths ---


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_model_folder_is_no_result(tmp_path: Path, name: str) -> None:
    write_samples(tmp_path / "model", [lm_sample(0)])
    (tmp_path / "model" / name).write_text("{}", encoding="utf-8")
    assert not is_result(tmp_path / "model") and not is_result(tmp_path)
    with pytest.raises(DataError, match="this is a model folder"):
        read_results(tmp_path / "model")


def test_other_paths_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "rows.json").write_text('{"version": 2}', encoding="utf-8")
    for path in (tmp_path, tmp_path / "rows.jsonl", tmp_path / "rows.json"):
        assert not is_result(path)
        with pytest.raises(DataError, match="no evaluation result"):
            read_results(path)
    assert not is_result(tmp_path / "missing")
    with pytest.raises(DataError, match="no such file"):
        read_results(tmp_path / "missing")


@pytest.mark.parametrize("folder", [".", "model"])
def test_totals_without_samples_are_no_result(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    write_totals(tmp_path / folder, OLD, {})
    assert not is_result(tmp_path)
    with pytest.raises(DataError, match="--log_samples"):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["samples_sums.jsonl", "log.eval", "log.json"])
def test_a_pipe_is_never_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        assert not is_result(path)
        with pytest.raises(DataError, match="no evaluation result"):
            read_results(path)


@pytest.mark.parametrize("name", ["samples_sums.jsonl", "log.eval", "log.json"])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may read everything, so the refusal is simulated."""
    path = write_log(tmp_path / name, inspect_log([]))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    assert is_result(path) == (path.suffix != ".json")
    with pytest.raises(DataError, match="Permission denied"):
        read_results(path)


# --- pairing ---


def task(name: str = "sums", metric: str = "acc", **fingerprints: str) -> ExternalTask:
    """A task whose question ids are the keys; values are 0, 1, 0, 1, …"""
    values = tuple(float(index % 2) for index in range(len(fingerprints)))
    return ExternalTask(name, metric, tuple(fingerprints), values, tuple(fingerprints.values()))


def test_questions_are_paired_by_id() -> None:
    base, tuned = task(a="1/x/t", b="2/x/t", c="3/x/t"), task(c="3/x/t", b="2/x/t", a="1/x/t")
    (pair,) = pair_tasks([task("other", a="1"), base], [tuned])
    assert (pair.name, pair.metric, pair.ids) == ("sums", "acc", ("a", "b", "c"))
    assert pair.base.tolist() == [0.0, 1.0, 0.0] and pair.tuned.tolist() == [0.0, 1.0, 0.0]
    (pair,) = pair_tasks([task(a="1", b="2")], [task(b="2", a="1")])
    assert pair.base.tolist() == [0.0, 1.0] and pair.tuned.tolist() == [1.0, 0.0]


def test_inspect_logs_of_two_runs_are_paired(tmp_path: Path) -> None:
    """The ids of chat messages differ between runs; a changed question or choice is noticed."""
    logs = [inspect_log([inspect_sample(1, grade), inspect_sample(2, "C")]) for grade in "CI"]
    base, tuned = (read_results(write_log(tmp_path / "log.json", log)) for log in logs)
    (pair,) = pair_tasks(base, tuned)
    assert (pair.base.tolist(), pair.tuned.tolist()) == ([1.0, 1.0], [0.0, 1.0])
    for key, value in (("input", "another"), ("target", "5"), ("choices", ["a", "b"])):
        log = copy.deepcopy(logs[1])
        log["samples"][1][key] = value
        with pytest.raises(DataError, match="1 questions differ") as caught:
            pair_tasks(base, read_results(write_log(tmp_path / "log.json", log)))
        assert "the first is 2" in str(caught.value)


@pytest.mark.parametrize(
    ("base", "tuned", "parts"),
    [
        (task(a="1", b="2", c="3"), task(a="1"), ["2 questions", "0 only", "first is b"]),
        (task(a="1"), task(x="0", a="1"), ["0 questions", "1 only", "first is x"]),
        (task(metric="acc", a="1"), task(metric="f1", a="1"), ["acc", "f1"]),
        (task(a="1/p/t", b="2/p/t"), task(a="1/p/t", b="9/p/t"), ["1 questions differ", "first is b"]),
        (task(a="1/p/t", b="2/p/t"), task(a="1/q/t", b="2/q/t"), ["2 prompts or targets", "chat template"]),
    ],
)
def test_tasks_that_differ_are_refused(base: ExternalTask, tuned: ExternalTask, parts: list[str]) -> None:
    with pytest.raises(DataError, match="task sums: ") as caught:
        pair_tasks([base], [tuned])
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize(("tuned", "names"), [([task("arc", a="1"), task("boolq", a="1")], "arc, boolq"), ([], "none")])
def test_no_common_task_names_both_lists(tuned: list[ExternalTask], names: str) -> None:
    with pytest.raises(DataError, match="base: sums") as caught:
        pair_tasks([task(a="1")], tuned)
    assert f"tuned: {names}" in str(caught.value)


# --- anything else ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=4,
)


def replaced(value: Any, data: st.DataObject) -> Any:
    """The JSON value with a part of it, at any depth, replaced or removed."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(value)))
        if not data.draw(st.integers(0, 5)):
            return {other: part for other, part in value.items() if other != key}
        return {**value, key: replaced(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 5)):
        index = data.draw(st.integers(0, len(value) - 1))
        return [*value[:index], replaced(value[index], data), *value[index + 1 :]]
    return data.draw(JSON)


@given(st.data())
def test_changed_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    log = inspect_log([inspect_sample(1, "C"), inspect_sample(2, {"a": 1} if data.draw(st.booleans()) else 0.5)])
    samples = [replaced(lm_sample(number), data) for number in range(2)]
    for file in (write_log(folder / "changed.json", replaced(log, data)), write_samples(folder, samples)):
        try:
            for result in read_results(file):
                assert len(result.ids) == len(result.values) == len(result.fingerprints)
                assert all(0 <= value <= 1 for value in result.values)
        except DataError as error:
            assert str(error).startswith(str(file))


def test_reading_needs_no_torch() -> None:
    code = "import sys, keeptune.evaluation.external_results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
