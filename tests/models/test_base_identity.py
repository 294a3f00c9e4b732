"""The identity of a base model follows its numbers and settings, not its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from keeptune.errors import ModelError
from keeptune.models.base_identity import identify


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_the_same_model_in_several_files_is_the_same(model: Path, tmp_path: Path) -> None:
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert identify(str(tmp_path / "shards")) == identify(str(model))


@pytest.mark.parametrize("change", ["value", "name", "shape", "type"])
def test_other_tensors_are_another_model(model: Path, change: str) -> None:
    before, tensors = identify(str(model)), load_file(model / "model.safetensors")
    name = sorted(tensors)[0]
    tensor = tensors.pop(name)
    changed = {"value": tensor + 1, "name": tensor, "shape": tensor.T.contiguous(), "type": tensor.view(torch.int32)}
    tensors[f"{name}x" if change == "name" else name] = changed[change]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert identify(str(model)).weights_sha256 != before.weights_sha256


def test_only_settings_that_change_answers_count(model: Path) -> None:
    before = identify(str(model))
    path = model / "config.json"
    config: Any = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "transformers_version": "1.0", "use_cache": False}), encoding="utf-8")
    assert identify(str(model)) == before
    path.write_text(json.dumps({**config, "rope_theta": 5.0, "rope_parameters": None}), encoding="utf-8")
    assert identify(str(model)).config_sha256 != before.config_sha256


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_damaged_weights_are_refused(model: Path, size: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot be loaded"):
        identify(str(model))


def test_a_folder_without_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        identify(str(model))
