"""PEFT's configuration of each adapter family, and the layers that get an adapter.

The families lora, rslora and dora are options of PEFT's LoraConfig. pissa is a plain LoRA with another start
(models/pissa.py). vera and ia3 have their own configuration classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, VeraConfig
from peft.tuners.lora import LoraLayer

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.models.target_layers import IA3_ROLES, layer_list, layer_roles


def build_peft_config(
    model: Any, adapter: AdapterSection, targets: Sequence[str], seed: int, invocation: Sequence[int] = ()
) -> PeftConfig:
    """The configuration from which PEFT creates the adapter.

    Args:
        model: the base model.
        adapter: the `adapter` section of the recipe.
        targets: the last parts of the names of linear layers.
        seed: decides VeRA's frozen random matrices.
        invocation: the tokens from which the adapter acts; empty if it always acts.

    Raises:
        ModelError: if `targets` or adapter.layers do not suit the family or the model.
    """
    if adapter.family == "ia3":
        return _ia3_config(model, adapter, targets)
    common: dict[str, Any] = {"r": adapter.rank, "target_modules": list(targets), "task_type": "CAUSAL_LM"}
    if adapter.layers:
        first, last = _checked_layers(model, adapter.layers)
        common |= {"layers_to_transform": list(range(first, last + 1)), "layers_pattern": layer_list_name(model)}
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
    roles = layer_roles(model)
    supported = [name for role in IA3_ROLES for name, assigned in roles.items() if assigned == {role}]
    unsupported = [name for name in targets if name not in supported]
    if unsupported:
        raise ModelError(
            f"adapter.targets: ia3 does not support {', '.join(unsupported)}, only {', '.join(supported)}; "
            "choose among these, write `targets: ia3`, or choose another family"
        )
    # (IA)³ scales the outputs of keys and values, and the input of the last layer of the MLP.
    inputs = [name for name in targets if roles[name] == {"mlp-output"}]
    if adapter.layers is None:
        return IA3Config(target_modules=list(targets), feedforward_modules=inputs, task_type="CAUSAL_LM")
    # PEFT's IA3Config has no option for layer numbers, so a regular expression selects them.
    first, last = _checked_layers(model, adapter.layers)
    numbers = "|".join(map(str, range(first, last + 1)))
    prefix = rf".*\.{layer_list_name(model)}\.({numbers})\..*\."
    return IA3Config(
        target_modules=f"{prefix}({'|'.join(targets)})",
        feedforward_modules=f"{prefix}({'|'.join(inputs)})" if inputs else [],
        task_type="CAUSAL_LM",
    )


def _checked_layers(model: Any, layers: tuple[int, int]) -> tuple[int, int]:
    """The first and the last layer. Raises ModelError if the model has fewer layers."""
    count = model.config.num_hidden_layers
    if layers[1] >= count:
        raise ModelError(
            f"adapter.layers: {list(layers)} exceeds the model's layers 0 to {count - 1}; "
            "give the first and the last layer, both inclusive"
        )
    return layers


def layer_list_name(model: Any) -> str:
    """The name of the module list that holds the model's layers: `layers` in a Llama."""
    named_blocks = layer_list(model)
    if named_blocks is None:
        count = model.config.num_hidden_layers
        raise ModelError(f"adapter.layers: {type(model).__name__} has no list of {count} layers; remove adapter.layers")
    return named_blocks[0]


def reset_magnitudes(tuned: PeftModel) -> None:
    """Computes DoRA's magnitudes again in float32.

    PEFT rounds them to the base's format, and a new adapter on a bfloat16 model would not answer as the base does.
    """
    layers: list[Any] = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        for name, magnitude in layer.lora_magnitude_vector.items():
            a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
            magnitude.update_layer(base_layer=layer.get_base_layer(), lora_A=a, lora_B=b, scaling=layer.scaling[name])
