"""Recipes, commands and models that cannot be used: one clear message, exit code 2, and nothing left to clean up."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import ended, files, keeptune, ok, process, refused
from end_to_end.conftest import MakeRecipe
from safetensors.torch import load_file, save_file


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"learning_rat": 1}}, "train.learning_rat: no such key; did you mean learning_rate?"),
        ({"data": {"quotas": {}}}, "data.quotas: no such key; did you mean quota?"),
        ({"adaptor": {}}, "adaptor: no such key; did you mean adapter?"),
        ({"gate": {"zzz": 1}}, "gate.zzz: no such key"),
        ({"train": {"learning_rate": -1}}, "train.learning_rate must be > 0 (got -1)"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate must be a finite number"),
        ({"prompt": {"template": "no slot"}}, "{problem} exactly once"),
        ({"data": {"files": []}}, "set either data.files or data.synth"),
        ({"model": {"dtype": "int4"}}, "model.dtype must be one of auto, bfloat16, float16, float32"),
    ],
)
def test_a_recipe_that_cannot_be_used(make_recipe: MakeRecipe, tmp_path: Path, changes: Any, told: str) -> None:
    for verb in (["run", "--run", tmp_path / "run"], ["plan"]):
        said = refused(2, *verb, make_recipe(**changes))
        assert f"{tmp_path / 'recipe.yaml'}: " in said and told in said
    assert not (tmp_path / "run").exists()


def test_all_errors_of_a_recipe_are_reported_at_once(make_recipe: MakeRecipe) -> None:
    said = refused(2, "plan", make_recipe(train={"epoch": 1, "warmup_share": 2}, seed="x"))
    assert "train.epoch: no such key" in said and "train.warmup_share must" in said and "seed must" in said


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kinds": ["areas"]}, "data.kinds: unknown kind 'areas'; did you mean area?"),
        ({"quota": {"sale": 1}}, "data.quota: unknown kind 'sale'; did you mean sales?"),
        ({"kinds": ["mass"], "exclude": ["mass"], "quota": {}}, "leave no kind"),
    ],
)
def test_kinds_that_do_not_exist(make_recipe: MakeRecipe, tmp_path: Path, changes: Any, told: str) -> None:
    assert told in refused(2, "run", make_recipe(data=changes), "--run", tmp_path / "run")
    assert not (tmp_path / "run" / "data").exists()


def test_truncated_targets_of_an_unknown_kind(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    told = "train.truncate_targets: unknown kind 'functions'; did you mean function?"
    assert told in refused(
        2, "run", make_recipe(train={"truncate_targets": {"functions": 0.5}}), "--run", tmp_path / "run"
    )


@pytest.mark.parametrize("content", [b"", b"- 1", b"a: [", b"\xff", b"name: 2024-99-99\n", b"a: &a [*a]\n"])
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert str(path) in refused(2, "run", path, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe(tmp_path: Path) -> None:
    assert "none.yaml: cannot read the recipe (No such file or directory)" in refused(2, "run", tmp_path / "none.yaml")
    assert "cannot read the recipe (Is a directory)" in refused(2, "run", tmp_path)


@pytest.mark.parametrize("setting", ["train.epochs", "=3", "train.epochs.a=1", "train.epoch=1", "name=[", "name"])
def test_a_setting_that_cannot_be_used(recipe: Path, tmp_path: Path, setting: str) -> None:
    assert refused(2, "run", recipe, "--run", tmp_path / "run", "--set", setting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["teach"], "No such command 'teach'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "recipe.yaml", "--fast"], "No such option: --fast"),
        (["synth", "--rows", "0"], "Invalid value for '--rows'"),
        (["synth", "--bad-share", "0.9"], "Invalid value for '--bad-share'"),
    ],
)
def test_a_command_that_does_not_exist(arguments: list[str], told: str) -> None:
    said = refused(2, *arguments)
    assert "Usage: " in said and told in said


def test_as_a_process() -> None:
    with process("score", "--skil", "x") as running:
        outcome = ended(running)
    assert outcome.code == 2 and outcome.out == ""
    assert "Usage: " in outcome.err and "Traceback" not in outcome.err
    with process("plan", "none.yaml") as running:
        outcome = ended(running)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("keeptune: none.yaml: ") and "No such file" in outcome.err
    assert outcome.err.endswith("\n") and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["./none", "/none", "nobody/no-such-model"])
def test_a_model_that_is_missing(make_recipe: MakeRecipe, tmp_path: Path, name: str) -> None:
    said = refused(2, "run", make_recipe(model={"name": name}), "--run", tmp_path / "run")
    # A relative folder is the recipe's neighbour, and is named from the root.
    shown = str(tmp_path / "none") if name.startswith(".") else name
    assert f"model {shown}: " in said
    assert not (tmp_path / "run" / "data" / "card.json").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_is_incomplete_or_damaged(
    make_recipe: MakeRecipe, model_folder: Path, tmp_path: Path, name: str
) -> None:
    other = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (other / name).write_bytes(b"{")
    assert f"model {other}: " in refused(2, "run", make_recipe(model={"name": str(other)}), "--run", tmp_path / "a")
    (other / name).unlink()
    assert f"model {other}: " in refused(2, "run", make_recipe(model={"name": str(other)}), "--run", tmp_path / "b")
    for run in ("a", "b"):
        assert not (tmp_path / run / "checkpoints").exists()


def test_a_tokenizer_of_another_model(
    make_recipe: MakeRecipe, model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = load_file(other / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:300].clone()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 300}), encoding="utf-8")
    told = "token ids up to 399"
    assert told in refused(2, "run", make_recipe(model={"name": str(other)}), "--run", tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert told in refused(2, "score", other, "--skill", corpus, "--limit", 1)
    assert told in refused(2, "ask", other, "1 + 1")


@pytest.mark.parametrize("targets", ["query_key_value", ".*wqq|.*wv", ["q_proj", "nope"], "[", []])
def test_targets_that_match_nothing(make_recipe: MakeRecipe, tmp_path: Path, targets: Any) -> None:
    recipe = make_recipe(adapter={"targets": targets})
    for verb in (["plan"], ["run", "--run", tmp_path / "run"]):
        said = refused(2, *verb, recipe)
        assert "adapter.targets: " in said
        assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_rate_that_training_does_not_survive(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe, run = make_recipe(train={"learning_rate": 1e20}), tmp_path / "run"
    said = refused(2, "run", recipe, "--run", run)
    assert "is not finite; nothing of this step is saved. Rows: " in said and "corpus.jsonl:" in said
    assert "Lower train.learning_rate" in said
    assert not list((run / "checkpoints").glob("*")) and not (run / "adapter").exists()


@pytest.mark.parametrize(
    ("code", "changes", "told"),
    [
        (2, {"adapter": {"start": "none"}}, "none: has no adapter"),
        (3, {"retain": {"replay": ["none.json"]}}, "none.json: cannot be read"),
        (3, {"score": {"retained": "none.json"}}, "none.json: cannot be read"),
    ],
)
def test_missing_inputs_are_reported_before_the_data_stage(
    make_recipe: MakeRecipe, tmp_path: Path, code: int, changes: Any, told: str
) -> None:
    assert f"{tmp_path / told}" in refused(code, "run", make_recipe(**changes), "--run", tmp_path / "run")
    assert not (tmp_path / "run" / "data").exists()


def test_a_folder_with_foreign_files_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("photos", encoding="utf-8")
    before = files(tmp_path)
    assert f"{tmp_path}: holds files that are no run" in refused(2, "run", recipe, "--run", tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("verb", ["train", "select", "report"])
def test_a_folder_that_is_no_run(tmp_path: Path, verb: str) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert f"{folder}: no recipe.yaml" in refused(2, verb, folder)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[]", "a: [", "data: {}", "other: 1"])
def test_a_run_whose_recipe_was_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.yaml").write_text(content, encoding="utf-8")
    assert str(tmp_path / "recipe.yaml") in refused(2, "report", tmp_path)


@pytest.mark.parametrize("name", ["scores/skill-tuned.jsonl", "manifest.json", "adapter/chosen.json"])
def test_a_run_with_a_damaged_file(finished: Path, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / name).write_bytes((run / name).read_bytes()[:-40])
    assert str(run / name) in refused(2, "report", run)


def test_help_and_no_arguments() -> None:
    assert "plan" in ok("--help").out and "synth" in ok("--help").out
    assert keeptune().code == 2
