"""Prepacked weights equal plain ones, with the adapter enabled, disabled or scaled, and are removed afterwards."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from keeptune.models import adapters
from keeptune.models.prepacked_linear import drop_prepacked_weights, packed_weights, prepack_weights, prepackable_layers

IDS = torch.randint(2, 300, (3, 11), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture(scope="module")
def tuned(model_folder: Path) -> Any:
    return tiny.tune(tiny.load(model_folder))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_packed_equals_plain(tuned: Any, scale: float) -> None:
    with adapters.scaled(tuned, scale):
        plain = logits(tuned)
        with packed_weights(tuned):
            torch.testing.assert_close(logits(tuned), plain, rtol=1e-4, atol=1e-4)


def test_the_scale_may_change_while_weights_are_packed(tuned: Any) -> None:
    """The server alternates between scales and packs once."""
    plain = {}
    for scale in (0.0, 0.5, 1.0):
        with adapters.scaled(tuned, scale):
            plain[scale] = logits(tuned)
    with packed_weights(tuned):
        for scale in (1.0, 0.5, 0.0, 1.0, 0.5):
            with adapters.scaled(tuned, scale):
                torch.testing.assert_close(logits(tuned), plain[scale], rtol=1e-4, atol=1e-4)
    assert (plain[1.0] - plain[0.5]).abs().max() > 0.1


def test_with_a_disabled_adapter_it_equals_the_packed_base(tuned: Any, model_folder: Path) -> None:
    base = tiny.load(model_folder)
    with packed_weights(base), packed_weights(tuned), tuned.disable_adapter():
        assert torch.equal(logits(tuned), logits(base))


def test_a_model_with_biases_is_packed() -> None:
    model: Any = tiny.LlamaForCausalLM(tiny.config(300, attention_bias=True, mlp_bias=True))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    plain = logits(model)
    with packed_weights(model):
        torch.testing.assert_close(logits(model), plain, rtol=1e-4, atol=1e-4)


def test_the_layers_are_restored_afterwards(tuned: Any) -> None:
    before = {name: module.__dict__.get("forward") for name, module in tuned.named_modules()}
    plain = logits(tuned)
    with pytest.raises(KeyError), packed_weights(tuned):
        assert any(module.__dict__.get("forward") is not before[name] for name, module in tuned.named_modules())
        raise KeyError
    assert {name: module.__dict__.get("forward") for name, module in tuned.named_modules()} == before
    assert torch.equal(logits(tuned), plain)


def test_an_unsupported_number_format_is_not_packed(model_folder: Path) -> None:
    model = tiny.load(model_folder).double()
    plain = logits(model)
    with packed_weights(model):
        assert torch.equal(logits(model), plain)


def test_cached_norms_of_dora_are_cleared_afterwards(model_folder: Path) -> None:
    """The weights that they belong to may change after generation."""
    tuned = tiny.moved(tiny.tune_as(tiny.load(model_folder), "dora")).eval()
    with packed_weights(tuned):
        before = logits(tuned)
        assert torch.equal(logits(tuned), before)
    assert not any(module.training for module in tuned.modules())
    tiny.moved(tuned)
    with packed_weights(tuned):
        after = logits(tuned)
    torch.testing.assert_close(after, logits(tuned), rtol=1e-4, atol=1e-4)
    assert (after - before).abs().max() > 0.1


def test_prepacked_layers_train_as_plain_ones(model_folder: Path) -> None:
    found = []
    for free in (0, 10**12):
        model = tiny.tune(tiny.load(model_folder)).train()
        prepack_weights(model, free)
        prepacked = [layer for layer in prepackable_layers(model) if "prepacked" in layer.__dict__]
        assert len(prepacked) == (len(prepackable_layers(model)) if free else 0), "only where memory is enough"
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters() if p.requires_grad)])
    for plain, prepacked_value in zip(*found, strict=True):
        torch.testing.assert_close(prepacked_value, plain, rtol=1e-5, atol=1e-5)


def test_prepacked_weights_are_dropped(model_folder: Path) -> None:
    model = tiny.tune(tiny.load(model_folder))
    prepack_weights(model, 10**12)
    drop_prepacked_weights(model)
    assert not any("prepacked" in layer.__dict__ for layer in model.modules())


def test_prepacked_weights_are_not_saved(model_folder: Path) -> None:
    model = tiny.tune(tiny.load(model_folder))
    names = set(model.state_dict())
    prepack_weights(model, 10**12)
    assert set(model.state_dict()) == names


def test_nested_contexts_pack_once(tuned: Any) -> None:
    def forwards() -> dict[Any, Any]:
        return {layer: layer.__dict__.get("forward") for layer in tuned.modules()}

    plain = forwards()
    with packed_weights(tuned):
        packed = forwards()
        with packed_weights(tuned):
            assert forwards() == packed
        assert forwards() == packed
    assert packed != plain
    assert forwards() == plain
