"""Hostile or damaged files of models and adapters: an error that names the cause, before anything is created or run."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from keeptune.errors import ModelError
from keeptune.models import adapters, base_identity
from keeptune.models import load as models


class Trap:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder that a test may change."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path) -> Path:
    """A stored adapter of the model."""
    adapters.save_adapter(tiny.tune(tiny.load(model_folder)), tmp_path / "adapter")
    return tmp_path / "adapter"


def edit(path: Path, **changes: Any) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**tree, **changes}), encoding="utf-8")


@pytest.mark.parametrize("is_divided", [False, True])
def test_pickled_weights_are_refused_and_never_opened(model: Path, tmp_path: Path, is_divided: bool) -> None:
    (model / "model.safetensors").unlink()
    name = "pytorch_model-00001-of-00001.bin" if is_divided else "pytorch_model.bin"
    (model / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    if is_divided:
        weights = {"weight_map": {"lm_head.weight": name}}
        (model / "model.safetensors.index.json").write_text(json.dumps(weights), encoding="utf-8")
    for load in (models.load_model, base_identity.identify):
        with pytest.raises(ModelError, match=r"pickled|no safetensors"):
            load(str(model))
    assert not (tmp_path / "executed").exists()


def test_other_weights_than_those_that_identify_the_model_are_refused(model: Path) -> None:
    """transformers reads the file that this key names, and `identify` would hash another one."""
    shutil.copy(model / "model.safetensors", model / "other.safetensors")
    edit(model / "config.json", transformers_weights="other.safetensors")
    for load in (models.load_model, base_identity.identify):
        with pytest.raises(ModelError, match="transformers_weights"):
            load(str(model))


def test_a_pickled_adapter_is_refused_and_never_opened(adapter: Path, model_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(tensors, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        adapters.load_adapter(tiny.load(model_folder), adapter)
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(ModelError, match="pickled"):
        adapters.load_adapter(tiny.load(model_folder), adapter)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_attention_heads", "num_key_value_heads"])
def test_counts_are_bounded_before_anything_is_created(model: Path, key: str) -> None:
    """F9: a configuration of a few bytes asked for a billion layers."""
    edit(model / "config.json", **{key: 10**9})
    started = time.process_time()
    for load in (models.load_config, models.load_model, base_identity.identify):
        with pytest.raises(ModelError, match=key):
            load(str(model))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"r": 10**9}, "r is 1000000000"),
        ({"rank_pattern": {"q_proj": 10**9}}, "q_proj"),
        ({"layer_replication": [[0, 1]] * 200_000}, "layer_replication"),
        ({"megatron_config": {"x": 1}, "megatron_core": "antigravity"}, "megatron_config"),
        ({"lora_bias": True}, "lora_bias"),
        ({"target_modules": "("}, "regular expression"),
        ({"target_modules": 5}, "does not fit"),
        ({"peft_type": "NOTHING"}, "does not fit"),
        ({"r": "four"}, "does not fit"),
    ],
)
def test_hostile_options_of_an_adapter(adapter: Path, model_folder: Path, changes: Any, named: str) -> None:
    edit(adapter / "adapter_config.json", **changes)
    started = time.process_time()
    with pytest.raises(ModelError, match=named):
        adapters.load_adapter(tiny.load(model_folder), adapter)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("key", ["target_modules", "rank_pattern"])
def test_a_slow_pattern_of_an_adapter(adapter: Path, model_folder: Path, key: str) -> None:
    """PEFT matches patterns without a time limit."""
    slow = r"(?:\w|\w\w|\.)+-"
    edit(adapter / "adapter_config.json", **{key: slow if key == "target_modules" else {slow: 2}})
    with pytest.raises(ModelError, match="repeats a part"):
        adapters.load_adapter(tiny.load(model_folder), adapter)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_in_a_model_folder_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    for load in (models.load_config, models.load_tokenizer, models.load_model, base_identity.identify):
        with pytest.raises(ModelError, match=r"not a regular file"):
            load(str(model))


def test_a_folder_of_an_adapter_is_no_base_model(adapter: Path, model: Path) -> None:
    """transformers would load the base that the adapter names, and apply the adapter."""
    shutil.copy(adapter / "adapter_config.json", model)
    with pytest.raises(ModelError, match="holds an adapter"):
        models.load_model(str(model))


def test_kernels_of_the_hub_are_hidden(tmp_path: Path) -> None:
    """transformers and bitsandbytes import this package where they find it, and load code with it."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    program = (
        "import importlib.util, keeptune.models\n"
        "assert importlib.util.find_spec('kernels') is None\n"
        "try: import kernels\n"
        "except ImportError: print('hidden')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "hidden\n"
