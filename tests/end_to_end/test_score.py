"""Scores and answers on held-out files: of a run, of its adapter alone, and of a base model."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from end_to_end.command import keeptune, ok, records, refused
from end_to_end.conftest import KINDS, MakeRecipe
from safetensors.torch import load_file, save_file

from keeptune.grading.number import grade
from keeptune.progress import printable

PROBLEM = "一个长方形的长为 87 厘米，宽为 45 厘米，请计算其面积。"
OTHER = "问题：{problem}\n回答："


@pytest.fixture(scope="module")
def held_out(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's own test problems as a file of rows, in their order."""
    path = tmp_path_factory.mktemp("held_out") / "rows.jsonl"
    rows = pq.read_table(finished / "data" / "test.parquet").to_pylist()
    lines = [json.dumps({"problem": row["problem"], "solution": row["solution"]}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def adapter(finished: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, without its run."""
    return Path(shutil.copytree(finished / "adapter", tmp_path / "handed over"))


def outputs(path: Path) -> list[str]:
    return [record["output"] for record in records(path)]


def edit(path: Path, **changes: Any) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**tree, **changes}), encoding="utf-8")


def test_a_run_scores_as_in_its_result(finished: Path, held_out: Path, squad: Path, tmp_path: Path) -> None:
    scored = ok("score", finished, "--skill", held_out, "--retained", squad, "--out", tmp_path, "--json").json
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    for key in ("accuracy", "n", "ci95", "by_kind", "by_policy", "by_source", "unstopped"):
        assert scored["skill"][key] == result["skill"]["tuned"][key]
    assert scored["skill"]["file"] == str(held_out)
    assert scored["skill"]["rejected"] == {"rows": 0, "first": []}
    assert scored["prompt"] == {**result["prompt"], "stored": True}
    assert (scored["target"], scored["model"]) == (str(finished), result["model"])
    assert scored["retained"]["metric"] == "squad-v1.1" and scored["retained"]["n"] == 36
    assert scored["retained"]["contest_metric"]["n"] == 12
    assert outputs(tmp_path / "skill.jsonl") == outputs(finished / "scores" / "skill-tuned.jsonl")
    stored = outputs(finished / "scores" / "retained-tuned.jsonl")
    assert outputs(tmp_path / "retained.jsonl")[: len(stored)] == stored


def test_an_adapter_scores_as_its_run(finished: Path, adapter: Path, held_out: Path, tmp_path: Path) -> None:
    assert ok("score", adapter, "--skill", held_out, "--out", tmp_path).out.startswith(f"{adapter} (base model ")
    assert outputs(tmp_path / "skill.jsonl") == outputs(finished / "scores" / "skill-tuned.jsonl")


def test_the_recipe_may_lie_beside_an_adapter(finished: Path, adapter: Path, held_out: Path) -> None:
    alone = ok("score", adapter, "--skill", held_out, "--limit", 2, "--json").json["skill"]
    shutil.copy(finished / "recipe.yaml", adapter / "recipe.yaml")
    assert ok("score", adapter, "--skill", held_out, "--limit", 2, "--json").json["skill"] == alone


def test_the_base_model_scores_half_of_the_questions_generated_for_it(model_folder: Path, squad: Path) -> None:
    scored = ok("score", model_folder, "--retained", squad, "--json").json
    assert (scored["retained"]["em"], scored["retained"]["n"]) == (50, 36)
    assert "skill" not in scored
    assert scored["prompt"]["stored"] is True


def test_scale_0_is_the_base(finished: Path, adapter: Path, held_out: Path, squad: Path, tmp_path: Path) -> None:
    edit(adapter / "keeptune.json", scale=0)
    ok("score", adapter, "--skill", held_out, "--retained", squad, "--out", tmp_path)
    assert outputs(tmp_path / "skill.jsonl") == outputs(finished / "scores" / "skill-base.jsonl")
    stored = outputs(finished / "scores" / "retained-base.jsonl")
    assert outputs(tmp_path / "retained.jsonl")[: len(stored)] == stored


def test_a_limit_asks_the_first_of_each(model_folder: Path, held_out: Path, squad: Path, tmp_path: Path) -> None:
    limited = ["--limit", 4, "--out", tmp_path, "--json"]
    scored = ok("score", model_folder, "--skill", held_out, "--retained", squad, *limited).json
    assert scored["skill"]["n"] == scored["retained"]["n"] == 4
    assert [record["id"] for record in records(tmp_path / "retained.jsonl")] == ["q0", "q1", "q2", "q3"]
    problems = [row["problem"] for row in records(held_out)]
    assert [record["problem"] for record in records(tmp_path / "skill.jsonl")] == problems[:4]


def test_unusable_rows_are_reported(model_folder: Path, corpus: Path) -> None:
    scored = ok("score", model_folder, "--skill", corpus, "--limit", 60, "--json").json
    assert set(KINDS) < set(scored["skill"]["by_kind"])
    assert scored["skill"]["n"] == 60
    rejected = scored["skill"]["rejected"]
    assert rejected["rows"] == len(rejected["first"]) > 0
    assert set(rejected["first"][0]) == {"line", "reason"}


def test_another_prompt_needs_the_option(finished: Path, adapter: Path, held_out: Path) -> None:
    for target in (finished, adapter):
        said = refused(2, "score", target, "--skill", held_out, "--prompt", OTHER)
        assert r"trained with: 'Question: {problem}\nAnswer:\n'" in said
        assert r"'问题：{problem}\n回答：'" in said
        assert "--other-prompt" in said
    asked = ["--skill", held_out, "--limit", 2, "--prompt", OTHER, "--other-prompt", "--json"]
    prompt = ok("score", adapter, *asked).json["prompt"]
    assert (prompt["template"], prompt["stored"]) == (OTHER, False)


def test_the_stored_prompt_may_be_given(adapter: Path, held_out: Path) -> None:
    given = ["--prompt", "Question: {problem}\nAnswer:\n", "--limit", 1, "--json"]
    assert ok("score", adapter, "--skill", held_out, *given).json["prompt"]["stored"] is True


@pytest.mark.parametrize("template", ["no slot", "{problem} {problem}", ""])
def test_a_prompt_without_one_slot(model_folder: Path, held_out: Path, template: str) -> None:
    assert "{problem} exactly once" in refused(2, "score", model_folder, "--skill", held_out, "--prompt", template)


def test_an_edited_prompt_is_noticed(adapter: Path, held_out: Path) -> None:
    stored = json.loads((adapter / "keeptune.json").read_text(encoding="utf-8"))["prompt"]
    edit(adapter / "keeptune.json", prompt={**stored, "template": "Q: {problem}\nA:\n"})
    said = refused(2, "score", adapter, "--skill", held_out)
    assert "keeptune.json: prompt.template" in said
    assert "keeptune.json" in refused(2, "ask", adapter, PROBLEM)


def test_an_adapter_without_its_prompt(adapter: Path, held_out: Path) -> None:
    (adapter / "keeptune.json").unlink()
    assert "keeptune.json: cannot be read" in refused(2, "score", adapter, "--skill", held_out)


def test_an_adapter_that_lacks_a_tensor(adapter: Path, held_out: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    name = sorted(weights)[3]
    del weights[name]
    save_file(weights, adapter / "adapter_model.safetensors")
    said = refused(2, "score", adapter, "--skill", held_out)
    assert f"e.g. {name}" in said


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"short"])
def test_an_adapter_that_is_damaged(adapter: Path, held_out: Path, content: bytes) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(content)
    assert str(adapter) in refused(2, "score", adapter, "--skill", held_out)


def test_an_adapter_of_another_model(adapter: Path, held_out: Path, model_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model_folder, tmp_path / "wider"))
    weights = load_file(other / "model.safetensors")
    for name in [name for name in weights if "mlp" in name]:
        axis = 1 if "down" in name else 0
        weights[name] = weights[name].narrow(axis, 0, 40).contiguous()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    edit(other / "config.json", intermediate_size=40)
    edit(adapter / "keeptune.json", model=str(other), base=None)
    assert "the adapter does not fit this model" in refused(2, "score", adapter, "--skill", held_out)


def test_nothing_to_score(model_folder: Path) -> None:
    assert "give --skill FILE, --retained FILE" in refused(2, "score", model_folder)


def test_a_missing_target(held_out: Path, tmp_path: Path) -> None:
    said = refused(2, "score", tmp_path / "nowhere", "--skill", held_out)
    assert "nowhere: no such folder" in said


def test_a_run_without_an_adapter_yet(finished: Path, held_out: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "recipe.yaml", tmp_path)
    assert "this run has no adapter yet" in refused(2, "score", tmp_path, "--skill", held_out)


@pytest.mark.parametrize("option", ["--skill", "--retained"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"data": []}', None])
def test_files_that_hold_no_question(model_folder: Path, tmp_path: Path, option: str, content: bytes | None) -> None:
    path = tmp_path / "questions"
    if content is not None:
        path.write_bytes(content)
    out = tmp_path / "out"
    assert str(path) in refused(3, "score", model_folder, option, path, "--out", out)
    assert not out.exists()


def test_a_question_id_that_occurs_twice(model_folder: Path, squad: Path, tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text(squad.read_text(encoding="utf-8").replace('"q5"', '"q4"'), encoding="utf-8")
    said = refused(3, "score", model_folder, "--retained", path)
    assert f"{path}: article 'Old things', paragraph 2, question 'q4': duplicate id" in said


def test_ask(finished: Path, adapter: Path, model_folder: Path) -> None:
    answer = ok("ask", finished, PROBLEM, "--json").json
    assert set(answer) == {"problem", "prompt", "output", "answer", "source", "stopped"}
    assert answer["prompt"] == f"Question: {PROBLEM}\nAnswer:\n"
    assert ok("ask", adapter, PROBLEM).out == printable(f"{answer['output']}\n")
    assert ok("ask", model_folder, PROBLEM).out != f"{answer['output']}\n"
    assert ok("ask", finished, f"{PROBLEM}\n", "--json").json == answer
    assert "the problem is empty" in refused(2, "ask", finished, "  ")
    assert "not UTF-8" in refused(2, "ask", finished, "\udcff")


def test_ask_answers_as_the_score_did(finished: Path) -> None:
    scored = records(finished / "scores" / "skill-tuned.jsonl")[0]
    assert ok("ask", finished, scored["problem"], "--json").json["output"] == scored["output"].strip()


def test_a_negative_limit(model_folder: Path) -> None:
    outcome = keeptune("score", model_folder, "--retained", "embedded", "--limit", -1)
    assert outcome.code == 2 and "--limit" in outcome.err


def test_a_long_training_teaches_the_problems(make_recipe: MakeRecipe, model_folder: Path, tmp_path: Path) -> None:
    """Tokens, labels, adapter, prompt and stop rule belong together, or not one of these answers would be right."""
    recipe = make_recipe(
        data={"kinds": ["mass"], "quota": {}, "styles": {"default": "answer"}, "split": {"dev": 0, "test": 4}},
        adapter={"rank": 16, "alpha": 32},
        train={"learning_rate": 0.01, "epochs": 100, "tokens_per_step": 600, "score_every_steps": 0},
        retain={"replay_share": 0},
        score={"retained_limit": 6},
    )
    run, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    ok("run", recipe, "--run", run)
    taught = pq.read_table(run / "data" / "train.parquet").to_pylist()
    lines = [json.dumps({"problem": row["problem"], "solution": row["solution"]}) for row in taught]
    rows.write_text("\n".join(lines), encoding="utf-8")
    skill = ok("score", run, "--skill", rows, "--out", tmp_path, "--json").json["skill"]
    assert skill["accuracy"] > 0.9 and skill["by_source"] == {"marker": len(taught)}
    for answer in records(tmp_path / "skill.jsonl"):
        assert dict(grade(answer["output"], Fraction(answer["truth"])).verdicts) == answer["verdicts"]
        assert answer["stopped"]
    assert ok("score", model_folder, "--skill", rows, "--json").json["skill"]["accuracy"] < 0.5


def test_an_adapter_of_another_program_is_scored_with_the_given_prompt(
    finished: Path, adapter: Path, held_out: Path
) -> None:
    model = json.loads((adapter / "keeptune.json").read_text(encoding="utf-8"))["model"]
    (adapter / "keeptune.json").unlink()
    edit(adapter / "adapter_config.json", base_model_name_or_path=model)
    assert "--prompt" in refused(2, "score", adapter, "--skill", held_out)
    template = json.loads((finished / "result.json").read_text(encoding="utf-8"))["prompt"]["template"]
    scored = ok("score", adapter, "--skill", held_out, "--limit", 2, "--prompt", template, "--json").json
    assert (scored["model"], scored["skill"]["n"]) == (model, 2)
    edit(adapter / "adapter_config.json", base_model_name_or_path=None)
    assert "base_model_name_or_path" in refused(2, "score", adapter, "--skill", held_out, "--prompt", template)
