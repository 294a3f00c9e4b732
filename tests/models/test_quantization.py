"""Quantized weights are close to the originals, and everything else works as with plain layers."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from keeptune.config import recipe
from keeptune.errors import ModelError, RecipeError
from keeptune.models import adapter_metadata, adapters
from keeptune.models.load import load_model, weights_sha256
from keeptune.models.quantization import LAYER_TYPES, QuantizedLinear, quantize
from keeptune.pipeline.evaluate_files import open_target
from keeptune.pipeline.memory_estimate import peak_bytes
from keeptune.training.loop import StepRecord, Trainer

OFF_BY = {"int8": 0.01, "nf4": 0.12, "fp8": 0.04}
"""The largest relative error of rounded weights: with 127 steps, with 16 levels, with 4 bits."""

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
IDS = torch.randint(2, 300, (3, 11), generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")

every_kind = pytest.mark.parametrize("kind", LAYER_TYPES)


def linear(bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(96, 64, bias).requires_grad_(False)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())


@every_kind
def test_the_dequantized_weight_is_close_to_the_original(kind: str) -> None:
    layer = linear()
    weight = layer.weight.clone()
    assert 0 < relative_error(LAYER_TYPES[kind](layer).dequantized_weight(), weight) < OFF_BY[kind]


@every_kind
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients_equal_those_of_the_dequantized_weight(kind: str, bias: bool) -> None:
    layer = LAYER_TYPES[kind](linear(bias))
    plain = linear(bias)
    plain.weight.data = layer.dequantized_weight()
    x = torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(2))
    own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = layer(own), plain(other)
    out.square().sum().backward()
    expected.square().sum().backward()
    # In fp8, inputs are rounded too, to four significant bits.
    bound = 0.08 if kind == "fp8" else 1e-6
    assert relative_error(out, expected) < bound
    assert own.grad is not None and other.grad is not None
    assert relative_error(own.grad, other.grad) < bound


@every_kind
@pytest.mark.parametrize("empty", [slice(0, 1), slice(0, 64)])
def test_outputs_with_zero_weights_stay_zero(kind: str, empty: slice) -> None:
    layer = linear(bias=False)
    layer.weight[empty] = 0
    found = LAYER_TYPES[kind](layer)(torch.ones(3, 96))
    assert found.isfinite().all()
    assert (found[:, empty] == 0).all()


@every_kind
def test_the_fused_step_equals_pefts_forward(model_folder: Path, kind: str) -> None:
    found: list[dict[str, torch.Tensor]] = []
    for is_fused in (True, False):
        tuned = tiny.tune(load_model(str(model_folder), "float32", kind))
        layers = [layer for layer in tuned.modules() if "forward" in layer.__dict__]
        assert len(layers) == 14
        for layer in layers if not is_fused else ():
            del layer.forward
        loss = tuned(input_ids=IDS, labels=IDS).loss
        loss.backward()
        gradients = {name: p.grad for name, p in tuned.named_parameters() if p.grad is not None}
        found.append({"loss": loss.detach(), **gradients})
    assert len(found[0]) == 29
    for name, expected in found[1].items():
        torch.testing.assert_close(found[0][name], expected, rtol=1e-4, atol=1e-6)


@every_kind
def test_only_linear_layers_are_quantized_and_all_weights_are_counted(model_folder: Path, kind: str) -> None:
    plain, own = tiny.load(model_folder), load_model(str(model_folder), "float32", kind)
    assert sum(isinstance(layer, QuantizedLinear) for layer in own.modules()) == 14
    assert type(own.lm_head) is nn.Linear
    assert torch.equal(own.lm_head.weight, plain.lm_head.weight)
    assert adapters.count_parameters(tiny.tune(own)) == adapters.count_parameters(tiny.tune(plain))
    assert weights_sha256(own) != weights_sha256(plain)


@every_kind
def test_a_new_or_disabled_adapter_is_the_quantized_base(model_folder: Path, kind: str) -> None:
    base = load_model(str(model_folder), "bfloat16", kind)
    with torch.no_grad():
        before = base(input_ids=IDS).logits
        tuned = tiny.tune_as(base, "lora")
        assert torch.equal(tuned(input_ids=IDS).logits, before)
        tiny.moved(tuned)
        assert not torch.equal(tuned(input_ids=IDS).logits, before)
        with adapters.scaled(tuned, 0):
            assert torch.equal(tuned(input_ids=IDS).logits, before)


@every_kind
def test_training_lowers_the_loss_and_keeps_frozen_weights(model_folder: Path, tmp_path: Path, kind: str) -> None:
    base = load_model(str(model_folder), "float32", kind)
    frozen = weights_sha256(base)
    settings = tiny.settings(epochs=2, tokens_per_step=600, learning_rate=0.01)
    records: list[StepRecord] = []
    tuned = tiny.tune(base)
    Trainer(tuned, EXAMPLES, settings, seed=3, run=tmp_path).run(records.append)
    assert records[-1].loss < records[0].loss
    assert all(p.dtype == torch.float32 for p in tuned.parameters() if p.requires_grad)
    assert weights_sha256(tuned.unload()) == frozen


def test_an_adapter_is_evaluated_on_the_base_of_its_training(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    adapters.save_adapter(tiny.tune(load_model(str(model_folder), "float32", "nf4")), folder)
    card = adapter_metadata.AdapterMetadata(str(model_folder), "arithmetic", tiny.PROMPT, {}, 1.0, "float32", "nf4")
    adapter_metadata.save(card, folder)
    assert adapter_metadata.load(folder) == card
    model: Any = open_target(str(folder)).generator.model
    assert sum(isinstance(layer, QuantizedLinear) for layer in model.modules()) == 14


def test_unsuitable_layers_and_missing_packages_raise(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"multiples of 16, .* 24 inputs"):
        quantize(nn.Sequential(nn.Linear(24, 32)), "fp8", CPU)
    monkeypatch.setattr("keeptune.models.quantization.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="nf4 needs bitsandbytes"):
        load_model(str(model_folder), "float32", "nf4")
    assert importlib.util.find_spec("bitsandbytes") is not None


def test_incompatible_options_raise() -> None:
    tree = {
        "data": {"synth": {"rows": 10}},
        "model": {"quantization": "int8"},
        "adapter": {"family": "dora"},
        "engine": "mindspore",
        "train": {"shard": True},
    }
    with pytest.raises(RecipeError) as caught:
        recipe.parse(tree, "x.yaml")
    for part in ("dora", "engine: torch", "train.shard"):
        assert part in str(caught.value)


def test_the_memory_estimate_counts_quantized_bytes() -> None:
    parameters = adapters.ParameterCount(1, 8_030_261_248)
    needed = {}
    for quantization in (None, "int8", "nf4", "fp8"):
        tree = {"data": {"synth": {"rows": 10}}, "model": {"dtype": "bfloat16", "quantization": quantization}}
        needed[quantization] = peak_bytes(tiny.LLAMA3_8B, parameters, recipe.parse(tree, "x"), 100, 100)
    assert needed["nf4"] < needed["int8"] < needed["fp8"] <= needed[None], "more where there is room for layouts"
