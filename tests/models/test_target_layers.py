"""Presets name roles of layers, and the roles equal the flow of data that automatic differentiation shows."""

from typing import Any

import model_families
import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM

from keeptune.errors import ModelError
from keeptune.models.attention import short_attention, short_mask
from keeptune.models.target_layers import expert_weights, layer_list, layer_roles, target_modules

FAMILIES = [name for name, (kind, _) in model_families.FAMILIES.items() if kind != "falcon"]
"""Families that let others compute their attention."""


def model(family: str) -> Any:
    kind, options = model_families.FAMILIES[family]
    return AutoModelForCausalLM.from_config(model_families.config(kind, 300, options)).eval()


class Recorder:
    """An attention that keeps its inputs."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Any:
        self.inputs.append((query, key, value))
        return short_attention(module, query, key, value, *args, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_equal_the_flow_of_data(family: str) -> None:
    base, recorder = model(family), Recorder()
    AttentionInterface.register("recorder", recorder)
    AttentionMaskInterface.register("recorder", short_mask)
    base.set_attn_implementation("recorder")
    block = layer_list(base)[1][0]  # type: ignore[index]
    outputs: dict[str, Tensor] = {}
    for path, layer in block.named_modules():
        if isinstance(layer, nn.Linear):
            name = path.rsplit(".", 1)[-1]
            layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    base(input_ids=torch.arange(5)[None], use_cache=False)
    roles = layer_roles(base)
    for role, states in zip(("query", "key", "value"), recorder.inputs[0], strict=True):
        total = states.square().sum()
        gradients = torch.autograd.grad(total, list(outputs.values()), allow_unused=True, retain_graph=True)
        sources = {name for name, gradient in zip(outputs, gradients, strict=True) if gradient is not None}
        assert sources == {name for name, own in roles.items() if role in own}, role


@pytest.mark.parametrize(
    ("family", "preset", "names"),
    [
        ("phi3", "attention-qv", ["qkv_proj"]),
        ("phi3", "all-linear", ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
        ("gpt-neox", "attention", ["dense", "query_key_value"]),
        ("gpt-neox", "mlp", ["dense_4h_to_h", "dense_h_to_4h"]),
        ("falcon", "attention-qv", ["query_key_value"]),
        ("starcoder2", "mlp", ["c_fc", "c_proj"]),
        ("nemotron", "all-linear", ["down_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("mixtral", "all-linear", ["k_proj", "o_proj", "q_proj", "v_proj"]),
        ("qwen2 moe", "mlp", ["down_proj", "gate_proj", "up_proj"]),
        ("qwen3", "ia3", ["down_proj", "k_proj", "v_proj"]),
    ],
)
def test_presets(family: str, preset: str, names: list[str]) -> None:
    assert target_modules(preset, layer_roles(model(family))) == names


@pytest.mark.parametrize(
    ("family", "preset", "missing"), [("mixtral", "mlp", "mlp-input"), ("phi3", "ia3", "key, value")]
)
def test_a_preset_that_a_model_lacks_layers_for_raises(family: str, preset: str, missing: str) -> None:
    with pytest.raises(ModelError, match=rf"adapter\.targets: {preset}") as caught:
        target_modules(preset, layer_roles(model(family)))
    assert missing in str(caught.value)


def test_the_weights_of_experts_are_counted() -> None:
    assert expert_weights(model("qwen3 moe")) == 2 * 4 * (2 * 24 * 32 + 24 * 32)
    assert expert_weights(model("qwen3")) == 0
