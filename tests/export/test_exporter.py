"""What is exported answers as the tuned model does, in plain transformers and under MindFormers' names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from keeptune.errors import ModelError, PromptError, RunError
from keeptune.export.exporter import export
from keeptune.mindspore import ckpt
from keeptune.mindspore.tensor_names import imported
from keeptune.models import adapter_metadata, adapters
from keeptune.models.load import load_model
from keeptune.pipeline.evaluate_files import open_target

TOKENS = torch.arange(2, 40)[None]


def tuned_folder(tmp_path: Path, family: str = "lora", scale: float = 1.0) -> Path:
    model = tiny.save(tmp_path / "model")
    folder = tmp_path / "adapter"
    folder.mkdir()
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), family)), folder)
    card = adapter_metadata.AdapterMetadata(
        str(model), "arithmetic", tiny.PROMPT, {"add": 30}, scale=scale, dtype="float32"
    )
    adapter_metadata.save(card, folder)
    return folder


def logits(tmp_path: Path, scale: float = 1.0) -> torch.Tensor:
    """What plain PEFT makes of base and adapter."""
    model = PeftModel.from_pretrained(tiny.reference(tmp_path / "model"), str(tmp_path / "adapter"))
    adapters.set_scale(model, scale)
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_merged_model_answers_alike(tmp_path: Path, family: str) -> None:
    export(str(tuned_folder(tmp_path, family)), "merged", tmp_path / "out")
    with torch.no_grad():
        own = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
    assert torch.allclose(own, logits(tmp_path), atol=1e-4)
    assert adapter_metadata.load(tmp_path / "out").prompt == tiny.PROMPT


def test_a_merged_model_is_asked_as_it_was_taught(tmp_path: Path) -> None:
    export(str(tuned_folder(tmp_path)), "merged", tmp_path / "out")
    opened = open_target(str(tmp_path / "out"))
    assert (opened.prompt, opened.budgets, opened.same_prompt) == (tiny.PROMPT, {"add": 30}, True)
    assert opened.generator.model.dtype == torch.float32, "as the card says, and not as this machine prefers"
    with pytest.raises(PromptError):
        open_target(str(tmp_path / "out"), "Other: {problem}")
    assert not open_target(str(tmp_path / "out"), "Other: {problem}", other_prompt=True).same_prompt


def test_the_scale_of_the_adapter_is_merged_too(tmp_path: Path) -> None:
    export(str(tuned_folder(tmp_path, scale=0.5)), "merged", tmp_path / "out")
    with torch.no_grad():
        own = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
    assert torch.allclose(own, logits(tmp_path, 0.5), atol=1e-4)


def test_what_has_a_llamas_tensors_and_is_none_is_not_written_for_mindspore(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}), encoding="utf-8")
    with pytest.raises(ModelError, match="a llama with gelu activations: MindFormers' Llama would compute"):
        export(str(folder), "mindspore", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(str(folder), "merged", tmp_path / "out")


def test_a_base_in_fewer_bits_is_merged_as_it_computed(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    card = adapter_metadata.load(folder)
    adapter_metadata.save(replace(card, quantization="int8"), folder)
    export(str(folder), "merged", tmp_path / "out")
    assert adapter_metadata.load(tmp_path / "out").quantization is None
    rounded = adapters.load_adapter(load_model(card.model, "float32", "int8"), folder)
    with torch.no_grad():
        own = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
        assert torch.allclose(own, rounded(input_ids=TOKENS).logits, atol=1e-4)
    assert not torch.allclose(own, logits(tmp_path), atol=1e-4)


def test_mindspore_checkpoints_hold_the_same_numbers(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    written = export(str(folder), "mindspore", tmp_path / "out")
    assert {"adapter.ckpt", "merged.ckpt", "pet_config.yaml", "keeptune.json"} <= set(written)
    halves = imported(ckpt.read(tmp_path / "out" / "adapter.ckpt"))
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        assert halves[name].bytes() == tensor.numpy().tobytes()
        assert halves[name].shape == tuple(tensor.shape)
    merged = imported(ckpt.read(tmp_path / "out" / "merged.ckpt"))
    model = tiny.reference(tmp_path / "model")
    for name, tensor in model.state_dict().items():
        tensor.copy_(torch.frombuffer(merged[name].bytes(), dtype=torch.float32).view(tensor.shape))
    with torch.no_grad():
        assert torch.allclose(model(input_ids=TOKENS).logits, logits(tmp_path), atol=1e-4)
    assert yaml.safe_load((tmp_path / "out" / "pet_config.yaml").read_text())["pet_config"] == {
        "pet_type": "lora",
        "lora_rank": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": ".*wq|.*wk|.*wv|.*wo|.*w1|.*w2|.*w3",
    }


def test_a_scaled_adapter_is_written_scaled(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path, scale=0.5)
    export(str(folder), "mindspore", tmp_path / "out")
    halves = imported(ckpt.read(tmp_path / "out" / "adapter.ckpt"))
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        expected = tensor / 2 if "lora_B" in name else tensor
        assert halves[name].bytes() == expected.numpy().tobytes()


def test_families_that_mindformers_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="MindFormers has plain LoRA on all layers only"):
        export(str(tuned_folder(tmp_path, "dora")), "mindspore", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(RunError, match="it exists already"):
        export(str(folder), "merged", tmp_path / "out")
    with pytest.raises(ModelError, match="there is no adapter to export"):
        export(str(tmp_path / "model"), "merged", tmp_path / "other")
