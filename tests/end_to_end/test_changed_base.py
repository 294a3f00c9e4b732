"""An adapter is used only on the base model that it was trained on, which its files identify."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import keeptune, ok, refused
from end_to_end.conftest import Tree
from safetensors.torch import load_file, save_file

from keeptune.models.base_identity import identify


@pytest.fixture(scope="module")
def trained(tree: Tree, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the base model, a recipe, and a run that has an adapter."""
    folder = tmp_path_factory.mktemp("identity")
    shutil.copytree(model_folder, folder / "model")
    changed = {**tree, "model": {**tree["model"], "name": str(folder / "model")}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
    ok("run", folder / "recipe.yaml", "--run", folder / "run")
    return folder


def change_weights(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 1
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def change_config(model: Path) -> None:
    path = model / "config.json"
    config: Any = json.loads(path.read_text(encoding="utf-8"))
    config["rms_norm_eps"] = 1e-3
    path.write_text(json.dumps(config), encoding="utf-8")


def hashes_after(trained: Path, change: Callable[[Path], None]) -> tuple[list[str], Path]:
    """Both hashes, and the run; the base model is changed until the test ends."""
    before = identify(str(trained / "model"))
    change(trained / "model")
    after = identify(str(trained / "model"))
    pairs = [(before.weights_sha256, after.weights_sha256), (before.config_sha256, after.config_sha256)]
    return [sha256 for pair in pairs if pair[0] != pair[1] for sha256 in pair], trained / "run"


@pytest.mark.parametrize("change", [change_weights, change_config])
def test_another_base_under_the_same_name_is_refused(
    trained: Path, change: Callable[[Path], None], tmp_path: Path, corpus: Path
) -> None:
    model = trained / "model"
    shutil.copytree(model, tmp_path / "backup")
    try:
        hashes, run = hashes_after(trained, change)
        assert len(hashes) == 2
        unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
        shutil.rmtree(unfinished / "scores")
        untrained = Path(shutil.copytree(run, tmp_path / "untrained"))
        shutil.rmtree(untrained / "adapter")
        (untrained / "checkpoints" / "trained.json").unlink()
        gate = ("gate", "--base", model, "--tuned", run, "--suite", "quick", "--out", tmp_path / "gate")
        for command in (
            ("ask", run, "1+1"),
            ("ask", run / "adapter", "1+1"),
            ("score", run, "--skill", corpus),
            ("export", run, "--to", "merged", "--out", tmp_path / "merged"),
            ("export", run, "--to", "mindspore", "--out", tmp_path / "mindspore"),
            ("run", trained / "recipe.yaml", "--run", unfinished),
            ("train", untrained),
            gate,
        ):
            message = refused(2, *command)
            assert all(sha256 in message.replace(" ", "") for sha256 in hashes), command
        verified = keeptune("verify", run)
        assert verified.code == 3
        assert all(sha256 in verified.out for sha256 in hashes)
    finally:
        shutil.rmtree(model)
        shutil.copytree(tmp_path / "backup", model)
    ok("ask", trained / "run", "1+1")


def test_an_adapter_of_an_older_version_is_not_compared(trained: Path, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter"))
    tree: Any = json.loads((adapter / "keeptune.json").read_text(encoding="utf-8"))
    model = Path(shutil.copytree(trained / "model", tmp_path / "model"))
    del tree["base"]
    tree["model"] = str(model)
    change_weights(model)
    (adapter / "keeptune.json").write_text(json.dumps(tree), encoding="utf-8")
    ok("ask", adapter, "1+1")
