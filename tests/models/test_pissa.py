"""PiSSA trains as in PEFT, on unchanged base weights, and is stored as a plain LoRA."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from keeptune.errors import ModelError
from keeptune.models import adapters
from keeptune.models.load import weights_sha256
from keeptune.models.pissa import low_rank_matrices

IDS = torch.randint(2, 300, (3, 11), generator=torch.Generator().manual_seed(0))


def peft_pissa(model: Any, ours: Any) -> Any:
    """PEFT's PiSSA from the start of `ours`, on the residual of each weight, with the current A and B of `ours`."""
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        init_lora_weights="pissa_niter_16",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    made = get_peft_model(model, config)
    for name, layer in made.named_modules():
        if isinstance(layer, LoraLayer):
            source = ours.get_submodule(name)
            a, b = source.lora_A["initial"].weight, source.lora_B["initial"].weight
            # Decompositions may differ in sign and rounding.
            residual: torch.Tensor = source.get_base_layer().weight - source.scaling["default"] * b @ a
            layer.get_base_layer().weight.data = residual.detach()
            layer.lora_A["default"].weight.data = source.lora_A["default"].weight.detach().clone()
            layer.lora_B["default"].weight.data = source.lora_B["default"].weight.detach().clone()
    return made


def test_outputs_and_gradients_equal_pefts(model_folder: Path) -> None:
    ours = tiny.moved(tiny.tune_as(tiny.load(model_folder), "pissa"))
    reference = peft_pissa(tiny.load(model_folder), ours)
    made = [model(input_ids=IDS).logits for model in (ours, reference)]
    torch.testing.assert_close(made[0], made[1], rtol=1e-4, atol=1e-4)
    for output in made:
        (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    gradients, expected = (
        {n: p.grad for n, p in model.named_parameters() if p.requires_grad} for model in (ours, reference)
    )
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).abs().max() < 1e-4 * gradient.abs().max(), name


def test_it_starts_from_the_principal_part(model_folder: Path) -> None:
    tuned = tiny.tune_as(tiny.load(model_folder), "pissa")
    layer = tuned.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    start = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    weight = layer.get_base_layer().weight
    largest = torch.linalg.svdvals(weight)[:4].square().sum()
    assert start.square().sum() > 0.98 * largest
    assert (weight - start).square().sum() < weight.square().sum() - 0.98 * largest


def test_the_base_does_not_change(model_folder: Path) -> None:
    base = tiny.load(model_folder)
    digest = weights_sha256(base)
    tuned = tiny.moved(tiny.tune_as(base, "pissa"))
    assert weights_sha256(tuned.unload()) == digest


def test_it_is_stored_as_a_plain_lora_of_twice_the_rank(model_folder: Path, tmp_path: Path) -> None:
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder), "pissa"))
    adapters.save_adapter(tuned, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    layer = tuned.get_submodule(name)
    a, b, a_start, b_start = (
        matrices[which].weight for which in ("default", "initial") for matrices in (layer.lora_A, layer.lora_B)
    )
    difference = stored[f"{name}.lora_B.weight"] @ stored[f"{name}.lora_A.weight"]
    torch.testing.assert_close(difference, (b @ a - b_start @ a_start).detach(), rtol=1e-4, atol=1e-5)
    loaded = adapters.load_adapter(tiny.load(model_folder), tmp_path, trainable=True)
    assert adapters.count_parameters(loaded).trainable == 2 * adapters.count_parameters(tuned).trainable


def test_nothing_large_cancels(model_folder: Path) -> None:
    """PEFT would store [A; A₀] and [B, −B₀]. Their halves are nearly equal, so bfloat16 loses most of a change."""
    layer = tiny.tune_as(tiny.load(model_folder), "pissa").get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    a_start, b_start = layer.lora_A["initial"].weight, layer.lora_B["initial"].weight
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, generator=draw)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    for parameter in (a, b):
        parameter.data *= 1 + 0.02 * torch.randn(parameter.shape, generator=draw)

    def change(pair: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        return (x.to(dtype) @ pair[0].to(dtype).t() @ pair[1].to(dtype).t()).double()

    pefts = (torch.cat([a, a_start]), torch.cat([b, -b_start], dim=1))
    exact = change(pefts, torch.float64)
    torch.testing.assert_close(change(low_rank_matrices(layer), torch.float64), exact, rtol=1e-4, atol=1e-6)
    assert (change(low_rank_matrices(layer), torch.bfloat16) - exact).norm() < 0.02 * exact.norm()
    assert (change(pefts, torch.bfloat16) - exact).norm() > 0.1 * exact.norm()


def test_a_rank_beyond_the_smallest_layer_raises(model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter\.rank: .* 17 .* 16"):
        tiny.tune_as(tiny.load(model_folder), "pissa", rank=17)
    whole = tiny.tune_as(tiny.load(model_folder), "pissa", rank=16)
    a, _ = low_rank_matrices(whole.get_submodule("base_model.model.model.layers.0.self_attn.k_proj"))
    assert a.shape == (32, 32)
