"""The commands that import a MindFormers configuration or use a .ckpt base model."""

from pathlib import Path

import kit
import pytest
import tiny
import yaml
from end_to_end.command import ok, refused
from end_to_end.conftest import MakeRecipe

from keeptune.config import recipe as recipes
from keeptune.mindspore import ckpt
from keeptune.mindspore.tensor_names import rename_to_mindformers
from keeptune.mindspore.tensors import to_ckpt


def test_yaml_files_are_imported_as_recipes(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(kit.team("all in one")), encoding="utf-8")
    (tmp_path / "predict.yml").write_text(yaml.safe_dump(kit.stock()), encoding="utf-8")
    output = ok(
        "import", tmp_path / "train.yaml", "--out", tmp_path / "a.yaml", "--evaluation", tmp_path / "predict.yml"
    ).out
    assert "only_save_strategy: True" in output
    assert "predict.yml: there is no pet_config" in output
    assert recipes.load(tmp_path / "a.yaml").train.optimizer == "mindformers"
    assert "no pet_config" in refused(2, "import", tmp_path / "predict.yml", "--out", tmp_path / "b.yaml")
    (tmp_path / "x.ckpt").write_bytes(b"")
    assert "--pet-config and --prompt" in refused(2, "import", tmp_path / "x.ckpt", "--out", tmp_path / "c")


def test_each_command_accepts_a_ckpt_base_model(
    make_recipe: MakeRecipe, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "cache"))
    weights = rename_to_mindformers(tiny.reference(model_folder).state_dict())
    ckpt.write(tmp_path / "base.ckpt", [to_ckpt(name, tensor) for name, tensor in weights.items()])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model_folder / name).read_bytes())
    recipe, model = make_recipe(train={"epochs": 1}), f"model.name={tmp_path / 'base.ckpt'}"
    ok("plan", recipe, "--set", model)
    ok("run", recipe, "--run", tmp_path / "run", "--set", model, "--set", "gate.threshold=0.01")
    problem = "当 x = 2.00 时，求函数 y = 5x^2 的值"
    assert ok("ask", tmp_path / "run", problem).out == ok("ask", tmp_path / "run" / "adapter", problem).out
    ok("export", tmp_path / "run", "--to", "merged", "--out", tmp_path / "merged")
    assert ok("verify", tmp_path / "run").out.endswith("all of it follows\n")
