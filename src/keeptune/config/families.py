"""Adapter families: the options that each one supports, and the settings that it can be trained with. No torch."""

from __future__ import annotations

from typing import Any, Literal

Family = Literal["lora", "rslora", "dora", "pissa", "vera", "ia3"]
"""The adapter method; docs/how-to/adapters.md compares them."""

FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {"vera": {"rank": 256}, "ia3": {"targets": "ia3"}}
"""Defaults that differ from those of LoRA."""

_FIXED_RANK = {"start_rate_ratio": "only lora and rslora can gain ranks"}

UNSUPPORTED_OPTIONS: dict[Family, dict[str, str]] = {
    "lora": {},
    "rslora": {},
    "dora": _FIXED_RANK,
    "pissa": {
        **_FIXED_RANK,
        "dropout": "it would drop the largest part of each weight",
        "start": "it starts from the base weights; continue from its stored adapter with lora of twice the rank",
    },
    "vera": {**_FIXED_RANK, "alpha": "its vectors contain the scale"},
    "ia3": {
        **_FIXED_RANK,
        "rank": "it has one vector per layer and no matrices",
        "alpha": "its vectors contain the scale",
        "dropout": "it has no path beside the layer",
    },
}
"""Options that a family does not have, each with the reason."""


def with_defaults(values: Any) -> Any:
    """Returns a recipe's adapter section with the defaults of its family; other values unchanged."""
    family = values.get("family") if isinstance(values, dict) else None
    return {**FAMILY_DEFAULTS.get(family, {}), **values} if isinstance(family, str) else values


def option_errors(family: Family, options: set[str]) -> list[str]:
    """Returns a message for each option that the family does not support."""
    errors = []
    for option, reason in UNSUPPORTED_OPTIONS[family].items():
        if option in options:
            others = ", ".join(name for name, unsupported in UNSUPPORTED_OPTIONS.items() if option not in unsupported)
            errors.append(f"adapter.{option}: {family} has no {option}: {reason}; remove the key, or use {others}")
    return errors


def training_errors(family: Family, loraplus_ratio: float, weight_decay: float) -> list[str]:
    """Returns a message for each training setting that the family does not support."""
    errors = []
    if loraplus_ratio != 1 and family in ("vera", "ia3"):
        errors.append(
            f"train.loraplus_ratio needs a family that trains A and B (lora, rslora, dora, pissa), not {family}; "
            "remove the key and set train.learning_rate"
        )
    if weight_decay and family in ("dora", "pissa", "ia3"):
        errors.append(
            f"train.weight_decay pulls the parameters towards zero, which is not the base model for {family}; "
            "set it to 0, or use lora, rslora or vera"
        )
    return errors


def quantization_errors(family: Family, by_mindspore: bool, is_sharded: bool) -> list[str]:
    """Returns a message for each setting that excludes a quantized base model."""
    remedy = "remove model.quantization"
    errors = []
    if family in ("dora", "pissa"):
        errors.append(f"model.quantization: {family} needs the unquantized base weights; {remedy}, or use lora")
    if by_mindspore:
        errors.append(f"model.quantization needs engine: torch; {remedy}")
    if is_sharded:
        errors.append(f"model.quantization excludes train.shard; {remedy}, or set train.shard: false")
    return errors
