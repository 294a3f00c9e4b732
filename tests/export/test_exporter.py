"""Exports compute the same as the tuned model: merged in transformers, and under MindFormers' names."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from keeptune.errors import ModelError, PromptError, RunError
from keeptune.export.exporter import export
from keeptune.mindspore import ckpt
from keeptune.mindspore.tensor_names import rename_from_mindformers
from keeptune.mindspore.tensors import to_torch
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
    """The logits of base and adapter in plain PEFT."""
    model = PeftModel.from_pretrained(tiny.reference(tmp_path / "model"), str(tmp_path / "adapter"))
    adapters.set_scale(model, scale)
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_merged_model_has_the_same_logits(tmp_path: Path, family: str) -> None:
    export(str(tuned_folder(tmp_path, family)), "merged", tmp_path / "out")
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
    assert torch.allclose(merged, logits(tmp_path), atol=1e-4)
    assert adapter_metadata.load(tmp_path / "out").prompt == tiny.PROMPT


def test_merged_model_keeps_its_prompt(tmp_path: Path) -> None:
    export(str(tuned_folder(tmp_path)), "merged", tmp_path / "out")
    opened = open_target(str(tmp_path / "out"))
    assert (opened.prompt, opened.budgets, opened.same_prompt) == (tiny.PROMPT, {"add": 30}, True)
    assert opened.generator.model.dtype == torch.float32, "the card's dtype, not this machine's default"
    with pytest.raises(PromptError):
        open_target(str(tmp_path / "out"), "Other: {problem}")
    assert not open_target(str(tmp_path / "out"), "Other: {problem}", other_prompt=True).same_prompt


def test_adapter_scale_is_merged(tmp_path: Path) -> None:
    export(str(tuned_folder(tmp_path, scale=0.5)), "merged", tmp_path / "out")
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
    assert torch.allclose(merged, logits(tmp_path, 0.5), atol=1e-4)


def test_other_activations_are_rejected_for_mindspore(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}), encoding="utf-8")
    with pytest.raises(ModelError, match="hidden_act gelu"):
        export(str(folder), "mindspore", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(str(folder), "merged", tmp_path / "out")


def test_quantized_base_is_merged_with_its_rounded_weights(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    card = adapter_metadata.load(folder)
    adapter_metadata.save(replace(card, quantization="int8"), folder)
    export(str(folder), "merged", tmp_path / "out")
    assert adapter_metadata.load(tmp_path / "out").quantization is None
    rounded = adapters.load_adapter(load_model(card.model, "float32", "int8"), folder)
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(input_ids=TOKENS).logits
        assert torch.allclose(merged, rounded(input_ids=TOKENS).logits, atol=1e-4)
    assert not torch.allclose(merged, logits(tmp_path), atol=1e-4)


def test_mindspore_checkpoints_have_the_same_values(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    written = export(str(folder), "mindspore", tmp_path / "out")
    assert {"adapter.ckpt", "merged.ckpt", "pet_config.yaml", "keeptune.json"} <= set(written)
    adapter = rename_from_mindformers(ckpt.read(tmp_path / "out" / "adapter.ckpt"))
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        assert adapter[name].bytes() == tensor.numpy().tobytes()
        assert adapter[name].shape == tuple(tensor.shape)
    merged = rename_from_mindformers(ckpt.read(tmp_path / "out" / "merged.ckpt"))
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


def test_scale_is_applied_to_the_exported_adapter(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path, scale=0.5)
    export(str(folder), "mindspore", tmp_path / "out")
    adapter = rename_from_mindformers(ckpt.read(tmp_path / "out" / "adapter.ckpt"))
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        expected = tensor / 2 if "lora_B" in name else tensor
        assert adapter[name].bytes() == expected.numpy().tobytes()


def test_families_unknown_to_mindformers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only plain LoRA"):
        export(str(tuned_folder(tmp_path, "dora")), "mindspore", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(RunError, match="already exists"):
        export(str(folder), "merged", tmp_path / "out")
    with pytest.raises(ModelError, match="there is no adapter"):
        export(str(tmp_path / "model"), "merged", tmp_path / "other")


def edited_adapter(tmp_path: Path, **changes: object) -> Path:
    """An adapter whose layers are configured by patterns, as PEFT saves it, and the logits that plain PEFT computes."""
    model = tiny.save(tmp_path / "model")
    folder = tmp_path / "adapter"
    settings: dict[str, object] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tuned = get_peft_model(tiny.reference(model), LoraConfig(**{**settings, **changes}))  # type: ignore[arg-type]
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
    tuned.save_pretrained(str(folder))
    card = adapter_metadata.AdapterMetadata(str(model), "arithmetic", tiny.PROMPT, {}, scale=0.5, dtype="float32")
    adapter_metadata.save(card, folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alpha_pattern": {"v_proj": 32}},
        {"target_modules": r".*\.(q_proj|v_proj)"},
        {"target_modules": r".*\.(q_proj|v_proj)", "alpha_pattern": {"layers.1.self_attn.q_proj": 2}},
    ],
)
def test_patterns_of_peft_are_exported_to_mindformers(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = edited_adapter(tmp_path, **changes)
    export(str(folder), "mindspore", tmp_path / "out")
    settings = yaml.safe_load((tmp_path / "out" / "pet_config.yaml").read_text(encoding="utf-8"))["pet_config"]
    assert settings["target_modules"] == ".*wq|.*wv"
    # MindFormers applies one scaling, lora_alpha / lora_rank, to all layers.
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    tensors = rename_from_mindformers(ckpt.read(tmp_path / "out" / "adapter.ckpt"))
    expected = load_file(folder / "adapter_model.safetensors")
    assert set(tensors) == set(expected)
    save_file(
        {name: to_torch(tensor).contiguous() for name, tensor in tensors.items()}, plain / "adapter_model.safetensors"
    )
    config = json.loads((plain / "adapter_config.json").read_text(encoding="utf-8"))
    (plain / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": {}}), encoding="utf-8")
    exported = PeftModel.from_pretrained(tiny.reference(tmp_path / "model"), str(plain))
    with torch.no_grad():
        assert torch.allclose(exported(input_ids=TOKENS).logits, logits(tmp_path, 0.5), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"rank_pattern": {"v_proj": 2}}, "rank_pattern"), ({"target_modules": r".*\.0\..*\.q_proj"}, "target_modules")],
)
def test_what_mindformers_cannot_express_is_named(tmp_path: Path, changes: dict[str, object], name: str) -> None:
    folder = edited_adapter(tmp_path, **changes)
    with pytest.raises(ModelError, match=name):
        export(str(folder), "mindspore", tmp_path / "out")
    assert export(str(folder), "merged", tmp_path / "merged")


def test_a_lora_with_a_bias_is_refused_by_name(tmp_path: Path) -> None:
    folder = edited_adapter(tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_bias": True}), encoding="utf-8")
    with pytest.raises(ModelError, match="lora_bias"):
        export(str(folder), "merged", tmp_path / "out")
