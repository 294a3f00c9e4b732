"""Tasks of lm-evaluation-harness, really asked: of base and tuned alike, in the gate, in the report, and verified."""

import json
import random
import sys
from pathlib import Path

import pytest
import tiny
import yaml
from end_to_end.command import keeptune, ok

from keeptune.config.recipe import Recipe, parse
from keeptune.errors import DataError, RecipeError
from keeptune.evaluation import harness
from keeptune.evaluation.reading_gate import ReadingVerdict, TaskScore, combine_with_tasks
from keeptune.evaluation.statistics import Ratio
from keeptune.grading.graders.user_function import ALLOW_CODE
from keeptune.pipeline.preflight import check_dependencies
from keeptune.pipeline.run import Run
from keeptune.run_files.directory import RunDirectory

KEPT = ReadingVerdict("pass", 0.9, "Reading was kept.")


@pytest.fixture(autouse=True)
def allowed_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Task files of the user can hold code."""
    monkeypatch.setenv(ALLOW_CODE, "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of our own, with forty questions of four choices each, and a group of both."""
    folder, generator = tmp_path_factory.mktemp("tasks"), random.Random(0)
    for name in ("sums", "lengths"):
        rows = []
        for _ in range(40):
            first, second = generator.randint(1, 9), generator.randint(1, 9)
            choices = [str(first + second + off) for off in (0, 1, 2, 3)]
            rows.append({"question": f"{name}: {first} + {second} =", "choices": choices, "answer": 0})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {
            "task": f"own_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": metric, "aggregation": "mean"} for metric in ("acc", "acc_norm")],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    group = {"group": "own", "task": ["own_sums", "own_lengths"]}
    (folder / "own.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    return folder


def test_one_record_a_question_and_a_group_is_its_tasks(model_folder: Path, folder: Path) -> None:
    model, words = tiny.load(model_folder), tiny.tokenizer()
    records = harness.score_tasks(model, words, ["own"], 10, str(folder))
    assert [record["task"] for record in records] == ["own"] * 20
    assert {record["metric"] for record in records} == {"acc_norm"}
    assert len({record["id"] for record in records}) == 20
    assert {record["value"] for record in records} <= {0.0, 1.0}
    told = harness.summarize(records, records, 1000, 0)
    assert (told["own"]["n"], told["own"]["ratio"].point) == (20, 1.0)


def test_task_files_run_only_if_code_is_allowed(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task file can name a function, which the harness imports from the folder."""
    trap = tmp_path / "executed"
    (tmp_path / "code.py").write_text(f"open({str(trap)!r}, 'w')\ndef f(doc): return 'x'\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text("task: own\ndoc_to_text: !function code.f\n", encoding="utf-8")
    monkeypatch.setenv(ALLOW_CODE, "0")
    with pytest.raises(RecipeError, match="--allow-code"):
        harness.score_tasks(tiny.load(model_folder), tiny.tokenizer(), ["own"], 1, str(tmp_path))
    recipe = parse({"data": {"synth": {"rows": 9}}, "score": {"tasks": ["own"], "tasks_path": str(tmp_path)}}, "a.yaml")
    with pytest.raises(RecipeError, match="--allow-code"):
        check_dependencies(RunDirectory(tmp_path / "run"), recipe)
    assert not trap.exists()


def test_an_answer_that_is_read_in_two_ways_counts_once(model_folder: Path, folder: Path) -> None:
    """The harness has a sample of a question for each filter, as its gsm8k has."""
    task = {
        "task": "own_written",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "sums.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[answer]}}",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
        "filter_list": [
            {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
            for name, pattern in (("strict", "^([0-9]+)$"), ("anywhere", "([0-9]+)"))
        ],
    }
    (folder / "written.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    records = harness.score_tasks(tiny.load(model_folder), tiny.tokenizer(), ["own_written"], 6, str(folder))
    assert len(records) == len({record["id"] for record in records}) == 6


def test_base_and_tuned_must_have_the_same_questions(model_folder: Path, folder: Path) -> None:
    records = harness.score_tasks(tiny.load(model_folder), tiny.tokenizer(), ["own_sums"], 4, str(folder))
    harness.check_same_questions(records, [{**record, "value": 0.5} for record in records])
    for changed in ([*records[:3], {**records[3], "prompt_hash": "another"}], records[:3], [*records, records[0]]):
        with pytest.raises(DataError, match="tasks-base"):
            harness.check_same_questions(changed, records)


def test_a_run_keeps_a_task_or_does_not_pass(model_folder: Path, folder: Path, tmp_path: Path) -> None:
    recipe = {
        "model": {"name": str(model_folder), "dtype": "float32"},
        "data": {
            "synth": {"rows": 200},
            "kinds": ["area"],
            "quota": {"default": 12},
            "max_tokens": 1000,
            "split": {"dev": 2, "test": 2},
        },
        "train": {"tokens_per_step": 2000},
        "score": {"tasks": ["own_sums"], "tasks_path": str(folder), "retained_limit": 4, "general": []},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run = tmp_path / "run"
    ok("run", tmp_path / "recipe.yaml", "--run", run)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    own = result["retained"]["tasks"]["own_sums"]
    assert (own["n"], own["metric"]) == (40, "acc_norm")
    assert 0 <= own["base"] <= 100 and set(own["ratio"]) == {"point", "low95", "high95"}
    assert result["gate"]["verdict"] != "pass"
    assert "own_sums" in (run / "report.html").read_text(encoding="utf-8")
    assert "| own_sums, acc_norm | 40 |" in (run / "report.md").read_text(encoding="utf-8")
    assert "all of it follows" in ok("verify", run).out
    path = run / "scores" / "tasks-tuned.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    records[3]["value"] = 1 - records[3]["value"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    outcome = keeptune("verify", run)
    assert outcome.code == 3 and "retained.tasks.own_sums.tuned" in outcome.out


def test_an_unknown_task_is_refused_by_name(model_folder: Path) -> None:
    with pytest.raises(RecipeError, match="helaswag"):
        harness.score_tasks(tiny.load(model_folder), tiny.tokenizer(), ["helaswag"], 0, None)


def test_a_task_named_twice_is_refused(model_folder: Path, folder: Path) -> None:
    with pytest.raises(RecipeError, match="Duplicate task 'own_sums'"):
        harness.score_tasks(tiny.load(model_folder), tiny.tokenizer(), ["own", "own_sums"], 0, str(folder))


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(Ratio(1.0, 0.95, 1.05), "pass"), (Ratio(0.5, 0.4, 0.6), "fail"), (Ratio(0.95, 0.8, 1.1), "undecided")],
)
def test_the_worst_verdict_counts(ratio: Ratio, verdict: str) -> None:
    made = combine_with_tasks(KEPT, [TaskScore("own", ratio, 50.0, 100)])
    assert made.verdict == verdict
    assert ("own" in made.reason) and ("Reading" in made.reason) == (verdict == "pass")


def test_a_base_that_knows_nothing_proves_nothing() -> None:
    made = combine_with_tasks(KEPT, [TaskScore("own", Ratio(1.0, 1.0, 1.0), 3.0, 100)])
    assert (made.verdict, made.more_questions) == ("undecided", None)
    assert combine_with_tasks(KEPT, []) == KEPT


def test_a_missing_harness_stops_a_run_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    recipe = Recipe.model_validate({"data": {"synth": {"rows": 10}}, "score": {"tasks": ["arc_easy"]}})
    with pytest.raises(RecipeError, match=r"keeptune\[harness\]"):
        Run.create(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()
