"""What PEFT makes each family of adapter from, and on which layers it sits.

lora, rslora and dora are options of PEFT's LoraConfig; pissa is a plain LoRA that starts elsewhere (model/pissa.py);
vera and ia3 have classes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, VeraConfig
from peft.tuners.lora import LoraLayer
from torch import nn

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError

IA3_TARGETS = ("k_proj", "v_proj", "down_proj")
"""Where (IA)³ scales: keys, values, and what enters the last layer of the MLP."""

_IA3_SCALES_INPUT = ("down_proj",)


def peft_config(
    model: Any, adapter: AdapterSection, targets: Sequence[str], seed: int, invocation: Sequence[int] = ()
) -> PeftConfig:
    """What PEFT makes the adapter from. `targets` are the last names of linear layers, `invocation` the tokens that an
    adapter acts from, if it does not always act.

    errors: ModelError when `targets` or adapter.layers do not suit the family or the model.
    """
    if adapter.family == "ia3":
        return _ia3_config(model, adapter, targets)
    common: dict[str, Any] = {"r": adapter.rank, "target_modules": list(targets), "task_type": "CAUSAL_LM"}
    if adapter.layers:
        first, last = _within(model, adapter.layers)
        common |= {"layers_to_transform": list(range(first, last + 1)), "layers_pattern": list_of_layers(model)}
    if adapter.family == "vera":
        return VeraConfig(vera_dropout=adapter.dropout, projection_prng_key=seed, **common)
    return LoraConfig(
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_rslora=adapter.family == "rslora",
        use_dora=adapter.family == "dora",
        alora_invocation_tokens=list(invocation) or None,
        **common,
    )


def _ia3_config(model: Any, adapter: AdapterSection, targets: Sequence[str]) -> IA3Config:
    outside = [name for name in targets if name not in IA3_TARGETS]
    if outside:
        raise ModelError(
            f"adapter.targets: ia3 has no place on {', '.join(outside)}; it scales {', '.join(IA3_TARGETS)}: "
            "choose among these, write `targets: ia3`, or take another family"
        )
    inputs = [name for name in targets if name in _IA3_SCALES_INPUT]
    if adapter.layers is None:
        return IA3Config(target_modules=list(targets), feedforward_modules=inputs, task_type="CAUSAL_LM")
    # PEFT chooses layers by number for the other families only; here their numbers stand in a regular expression.
    first, last = _within(model, adapter.layers)
    numbers = "|".join(map(str, range(first, last + 1)))
    place = rf".*\.{list_of_layers(model)}\.({numbers})\..*\."
    return IA3Config(
        target_modules=f"{place}({'|'.join(targets)})",
        feedforward_modules=f"{place}({'|'.join(inputs)})" if inputs else [],
        task_type="CAUSAL_LM",
    )


def _within(model: Any, layers: tuple[int, int]) -> tuple[int, int]:
    count = model.config.num_hidden_layers
    if layers[1] >= count:
        raise ModelError(
            f"adapter.layers: {list(layers)} goes beyond the model, whose layers are 0 to {count - 1}; "
            "give the first and the last layer, both included"
        )
    return layers


def list_of_layers(model: Any) -> str:
    """What the model calls the list of its layers: `layers` in a Llama."""
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return str(name.rsplit(".", 1)[-1])
    raise ModelError(f"adapter.layers: {type(model).__name__} has no list of {count} layers; take adapter.layers out")


def measure_magnitudes(tuned: PeftModel) -> None:
    """Takes DoRA's magnitudes anew, in float32: PEFT rounds them to the base's format, and a fresh adapter on a
    bfloat16 model would not answer as the base does."""
    layers: list[Any] = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        for name, magnitude in layer.lora_magnitude_vector.items():
            a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
            magnitude.update_layer(base_layer=layer.get_base_layer(), lora_A=a, lora_B=b, scaling=layer.scaling[name])
