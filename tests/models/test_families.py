"""Every family: parameter counts, no change at the start or when disabled, scaling, and storage in PEFT's format."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.models import adapter_metadata, adapters
from keeptune.models.adapters import ParameterCount
from keeptune.models.prepacked_linear import packed_weights
from keeptune.pipeline.plan import count_parameters

IDS = torch.randint(2, 300, (3, 11), generator=torch.Generator().manual_seed(0))
every_family = pytest.mark.parametrize("family", tiny.FAMILIES)

# Inputs and outputs of the seven linear layers of a block of the tiny model: q, k, v, o, gate, up, down.
SHAPES = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)]
LORA = sum(4 * (inputs + outputs) for inputs, outputs in SHAPES)
COUNTS = {
    "lora": LORA,
    "rslora": LORA,
    "dora": LORA + sum(outputs for _, outputs in SHAPES),  # plus a magnitude per output
    "pissa": LORA,
    "vera": sum(16 + outputs for _, outputs in SHAPES),  # a vector over the rank and one over the outputs
    "ia3": 16 + 16 + 48,  # outputs of keys and values, inputs of the MLP's last layer
}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    output = model(input_ids=IDS).logits
    assert isinstance(output, torch.Tensor)
    return output


@every_family
def test_counts_match_the_formulas_with_and_without_a_model(model_folder: Path, family: str) -> None:
    base = tiny.load(model_folder)
    section = AdapterSection.model_validate({"family": family, **tiny.FAMILIES[family]})
    expected = ParameterCount(2 * COUNTS[family], sum(parameter.numel() for parameter in base.parameters()))
    assert count_parameters(base.config, section) == expected
    assert adapters.count_parameters(tiny.tune_as(base, family)) == expected


@pytest.mark.parametrize(
    ("adapter", "trainable"),
    [
        ({"family": "rslora", "rank": 64, "targets": "attention"}, 54_525_952),
        ({"family": "pissa", "rank": 8, "targets": "attention-qv"}, 3_407_872),
        # 41,943,040 of LoRA, and a magnitude for each of 43,008 outputs per layer.
        ({"family": "dora"}, 41_943_040 + 32 * 43_008),
        ({"family": "vera"}, 1_433_600),
        ({"family": "ia3"}, 32 * (1024 + 1024 + 14336)),
        ({"rank": 8, "targets": "attention-qv", "layers": [8, 15]}, 3_407_872 // 4),
    ],
)
def test_counts_on_llama_3_8b(adapter: dict[str, Any], trainable: int) -> None:
    assert count_parameters(tiny.LLAMA3_8B, AdapterSection.model_validate(adapter)) == ParameterCount(
        trainable, 8_030_261_248
    )


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_or_disabled_adapter_is_the_base(model_folder: Path, family: str, dtype: torch.dtype) -> None:
    base = logits(tiny.load(model_folder).to(dtype))
    tuned = tiny.tune_as(tiny.load(model_folder).to(dtype), family)
    counted = adapters.count_parameters(tuned)
    assert torch.equal(logits(tuned), base)
    before = logits(tiny.moved(tuned))
    assert (before - base).abs().max() > 0.1
    with adapters.scaled(tuned, 0):
        assert torch.equal(logits(tuned), base)
        with packed_weights(tuned):
            torch.testing.assert_close(logits(tuned), base, rtol=1e-4, atol=0.2 if dtype is torch.bfloat16 else 1e-4)
    assert torch.equal(logits(tuned), before)
    assert adapters.count_parameters(tuned) == counted
    assert torch.equal(logits(tuned.unload()), base)


def weights(tuned: Any, scale: float) -> torch.Tensor:
    """The effective weight of one layer: its outputs for the unit vectors."""
    layer = tuned.get_submodule("base_model.model.model.layers.1.mlp.down_proj")
    with torch.no_grad(), adapters.scaled(tuned, scale):
        found = layer(torch.eye(48))
    assert isinstance(found, torch.Tensor)
    return found


@every_family
def test_scaling_is_linear_in_the_change_of_weights(model_folder: Path, family: str) -> None:
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder), family))
    parameters = {name: parameter.clone() for name, parameter in tuned.named_parameters()}
    base, whole = weights(tuned, 0), weights(tuned, 1)
    assert (whole - base).abs().max() > 0.01
    for scale in (-1.0, 0.25, 1.5):
        torch.testing.assert_close(weights(tuned, scale), base + scale * (whole - base), rtol=1e-4, atol=1e-5)
    assert torch.equal(weights(tuned, 1), whole)
    assert all(torch.equal(parameter, parameters[name]) for name, parameter in tuned.named_parameters())
    adapters.set_scale(tuned, 0.5)
    with adapters.scaled(tuned, 0.5):
        torch.testing.assert_close(weights(tuned, 1), base + 0.25 * (whole - base), rtol=1e-4, atol=1e-5)
    adapters.set_scale(tuned, 0)
    assert torch.equal(weights(tuned, 1), base)


@every_family
@pytest.mark.parametrize("layers", [None, [1, 1]])
def test_plain_peft_loads_the_stored_adapter(
    model_folder: Path, tmp_path: Path, family: str, layers: list[int] | None
) -> None:
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder), family, layers=layers))
    adapters.save_adapter(tuned, tmp_path)
    assert logits(tuned).sub(logits(tiny.load(model_folder))).abs().max() > 0.1
    plain = PeftModel.from_pretrained(tiny.reference(model_folder), tmp_path)
    torch.testing.assert_close(logits(plain), logits(tuned), rtol=1e-4, atol=1e-4)
    loaded = adapters.load_adapter(tiny.load(model_folder), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(tuned), rtol=0, atol=0)
    assert adapters.count_parameters(loaded).trainable == 0
    expected = logits(tuned)
    for model in (tuned, loaded):
        with packed_weights(model):
            torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    with adapters.scaled(loaded, 0):
        assert torch.equal(logits(loaded), logits(tiny.load(model_folder)))


@every_family
def test_an_adapter_of_a_bfloat16_model_loads_as_saved(model_folder: Path, tmp_path: Path, family: str) -> None:
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder).bfloat16(), family))
    adapters.save_adapter(tuned, tmp_path)
    loaded = adapters.load_adapter(tiny.load(model_folder).bfloat16(), tmp_path)
    assert torch.equal(logits(loaded), logits(tuned))


@every_family
def test_an_incomplete_adapter_raises(model_folder: Path, tmp_path: Path, family: str) -> None:
    adapters.save_adapter(tiny.tune_as(tiny.load(model_folder), family), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    for name in sorted(tensors):
        save_file({own: tensor for own, tensor in tensors.items() if own != name}, path)
        with pytest.raises(ModelError, match="adapter"):
            adapters.load_adapter(tiny.load(model_folder), tmp_path)


@every_family
def test_a_stored_adapter_is_restored(model_folder: Path, tmp_path: Path, family: str) -> None:
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder), family))
    adapters.save_adapter(tuned, tmp_path)
    again = tiny.tune_as(tiny.load(model_folder), family)
    adapters.restore_adapter(again, tmp_path)
    for (name, own), (_, expected) in zip(again.named_parameters(), tuned.named_parameters(), strict=True):
        assert torch.equal(own, expected), name
    for other in set(tiny.FAMILIES) - {family, "lora", "rslora"}:
        with pytest.raises(ModelError, match="holds another adapter"):
            adapters.restore_adapter(tiny.tune_as(tiny.load(model_folder), other), tmp_path)


@every_family
def test_in_bfloat16_the_adapter_is_trained_in_float32(model_folder: Path, family: str) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder).to(dtype), family))
        tuned(input_ids=IDS).logits.float().square().mean().backward()
        found.append({name: p.grad for name, p in tuned.named_parameters() if p.requires_grad})
        assert all(gradient.dtype is torch.float32 for gradient in found[-1].values())
        assert not any(p.grad is not None for p in tuned.parameters() if not p.requires_grad)
    exact, rounded = (torch.cat([gradient.flatten() for gradient in own.values()]) for own in found)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.98


@every_family
@pytest.mark.parametrize(("layers", "share"), [([0, 0], 0.5), ([1, 1], 0.5), ([0, 1], 1)])
def test_layers_are_selected_by_number(model_folder: Path, family: str, layers: list[int], share: float) -> None:
    tuned = tiny.tune_as(tiny.load(model_folder), family, layers=layers)
    own = {name.split(".layers.")[1][0] for name, p in tuned.named_parameters() if p.requires_grad}
    assert own == {str(number) for number in range(layers[0], layers[1] + 1)}
    assert adapters.count_parameters(tuned).trainable == share * 2 * COUNTS[family]


@every_family
def test_layers_beyond_the_model_raise(model_folder: Path, family: str) -> None:
    with pytest.raises(ModelError, match=r"adapter\.layers: \[1, 2\]"):
        tiny.tune_as(tiny.load(model_folder), family, layers=[1, 2])


def test_the_scale_of_rank_stabilized_lora(model_folder: Path) -> None:
    for family, scale in (("lora", 8 / 4), ("rslora", 8 / 4**0.5)):
        tuned = tiny.tune_as(tiny.load(model_folder), family)
        layer = tuned.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
        assert layer.scaling == {"default": scale}


@pytest.mark.parametrize(
    ("targets", "unsupported"),
    [("all-linear", "gate_proj, o_proj, q_proj, up_proj"), ("mlp", "gate_proj, up_proj"), (".*wq|.*wv", "q_proj")],
)
def test_ia3_supports_only_its_targets(model_folder: Path, targets: str, unsupported: str) -> None:
    with pytest.raises(ModelError) as caught:
        tiny.tune_as(tiny.load(model_folder), "ia3", targets=targets)
    assert "adapter.targets" in str(caught.value) and unsupported in str(caught.value)
    for name, trainable in (("k_proj", 2 * 16), ("down_proj", 2 * 48)):
        assert (
            adapters.count_parameters(tiny.tune_as(tiny.load(model_folder), "ia3", targets=name)).trainable == trainable
        )


def test_the_projection_of_vera_depends_on_the_seed_and_is_stored(model_folder: Path, tmp_path: Path) -> None:
    section = AdapterSection(family="vera", rank=16)
    first, same, other = (adapters.attach(tiny.load(model_folder), section, seed) for seed in (1, 1, 2))
    for model, name in ((first, "first"), (same, "same"), (other, "other")):
        (tmp_path / name).mkdir()
        adapters.save_adapter(model, tmp_path / name)
    projections = {name: load_file(tmp_path / name / "adapter_model.safetensors")["base_model.vera_A"]
             for name in ("first", "same", "other")}  # fmt: skip
    assert torch.equal(projections["first"], projections["same"])
    assert not torch.equal(projections["first"], projections["other"])
    config = json.loads((tmp_path / "first" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["projection_prng_key"], config["r"]) == ("VERA", 1, 16)


@pytest.mark.parametrize("family", ["lora", "rslora", "dora", "vera", "ia3"])
def test_a_stored_adapter_is_a_start(model_folder: Path, tmp_path: Path, family: str) -> None:
    first = tiny.tune_as(tiny.load(model_folder), family)
    with torch.no_grad():
        for parameter in first.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    adapters.save_adapter(first, tmp_path)
    section = {"family": family, **tiny.FAMILIES[family], "start": str(tmp_path)}
    second = adapters.attach(tiny.load(model_folder), AdapterSection.model_validate(section), seed=5)
    assert torch.equal(logits(first), logits(second))
    assert adapters.count_parameters(second).trainable == adapters.count_parameters(first).trainable


def save_metadata(folder: Path, scale: float) -> None:
    adapter_metadata.save(
        adapter_metadata.AdapterMetadata("model", "arithmetic", tiny.PROMPT, {"add": 30}, scale), folder
    )


def test_a_start_adapter_has_its_stored_scale(model_folder: Path, tmp_path: Path) -> None:
    first = tiny.moved(tiny.tune_as(tiny.load(model_folder), "lora"))
    adapters.save_adapter(first, tmp_path)
    save_metadata(tmp_path, 0.5)
    section = AdapterSection.model_validate({**tiny.FAMILIES["lora"], "start": str(tmp_path)})
    second = adapters.attach(tiny.load(model_folder), section, seed=5)
    whole = logits(first)
    with adapters.scaled(first, 0.5):
        assert torch.allclose(logits(first), logits(second), atol=1e-5) and not torch.allclose(whole, logits(second))


@pytest.mark.parametrize(("family", "alpha"), [("lora", 14), ("lora", 5), ("rslora", 14)])
def test_a_start_adapter_may_have_fewer_ranks(model_folder: Path, tmp_path: Path, family: str, alpha: int) -> None:
    """The product, scale included, is the same; the new ranks are zero and can learn."""
    first = tiny.moved(tiny.tune_as(tiny.load(model_folder), family))
    adapters.save_adapter(first, tmp_path)
    save_metadata(tmp_path, 0.5)
    section = AdapterSection.model_validate({"family": family, "rank": 7, "alpha": alpha, "start": str(tmp_path)})
    second = adapters.attach(tiny.load(model_folder), section, seed=5)
    assert adapters.start_ranks(section) == 4
    # In float64, because the rounding of float32 depends on the processor: up to 1.2e-5 of logits up to 9.
    with adapters.scaled(first.double(), 0.5):
        assert torch.allclose(logits(first), logits(second.double()), atol=1e-5)
    for layer in (m for m in second.modules() if hasattr(m, "lora_A")):
        assert not layer.lora_B["default"].weight[:, 4:].any()
        assert layer.lora_A["default"].weight[4:].any(dim=1).all()


def test_a_scaled_dora_cannot_be_a_start(model_folder: Path, tmp_path: Path) -> None:
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model_folder), "dora")), tmp_path)
    save_metadata(tmp_path, 0.5)
    section = AdapterSection.model_validate({"family": "dora", **tiny.FAMILIES["dora"], "start": str(tmp_path)})
    with pytest.raises(ModelError, match=r"has scale 0\.5"):
        adapters.attach(tiny.load(model_folder), section, seed=0)


def test_another_shape_cannot_be_a_start(model_folder: Path, tmp_path: Path) -> None:
    adapters.save_adapter(tiny.tune_as(tiny.load(model_folder), "lora"), tmp_path)
    section = {**tiny.FAMILIES["lora"], "alpha": 7, "start": str(tmp_path)}
    with pytest.raises(ModelError, match=r"has lora_alpha \d+, .*has 7"):
        adapters.attach(tiny.load(model_folder), AdapterSection.model_validate(section), seed=0)
    larger = AdapterSection.model_validate({"rank": 3, "alpha": 6, "start": str(tmp_path)})
    with pytest.raises(ModelError, match=r"has r 4"):
        adapters.attach(tiny.load(model_folder), larger, seed=0)
    other_layers = AdapterSection.model_validate({"rank": 7, "targets": "attention-qv", "start": str(tmp_path)})
    with pytest.raises(ModelError, match="other layers"):
        adapters.attach(tiny.load(model_folder), other_layers, seed=0)
    with pytest.raises(ModelError, match="has no adapter to start from"):
        adapters.attach(tiny.load(model_folder), AdapterSection(start=str(tmp_path / "none")), seed=0)
    with pytest.raises(ValueError, match="pissa has no start"):
        AdapterSection(family="pissa", start=str(tmp_path))
