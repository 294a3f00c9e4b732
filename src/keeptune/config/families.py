"""Adapter families as a recipe knows them: which options each has, and with what it can be trained. No torch."""

from __future__ import annotations

from typing import Any, Literal

Family = Literal["lora", "rslora", "dora", "pissa", "vera", "ia3"]
"""What sort of adapter is trained; docs/adapters.md says which to choose when."""

OWN_DEFAULTS: dict[str, dict[str, Any]] = {"vera": {"rank": 256}, "ia3": {"targets": "ia3"}}
"""Where a family's usual value is not LoRA's."""

WITHOUT: dict[Family, dict[str, str]] = {
    "lora": {},
    "rslora": {},
    "dora": {},
    "pissa": {
        "dropout": "what it would drop is the largest part of each weight",
        "start": "it starts from the base's own weights; go on from what it stored with lora of twice the rank",
    },
    "vera": {"alpha": "its vectors scale themselves"},
    "ia3": {
        "rank": "it has one vector a layer and no matrices",
        "alpha": "its vectors scale themselves",
        "dropout": "it has no path of its own beside the layer",
    },
}
"""Options that a family does not have, and why."""


def with_defaults(given: Any) -> Any:
    """A recipe's adapter section with what its family takes where nothing is given; anything else as it is."""
    family = given.get("family") if isinstance(given, dict) else None
    return {**OWN_DEFAULTS.get(family, {}), **given} if isinstance(family, str) else given


def refused_options(family: Family, given: set[str]) -> list[str]:
    """What is wrong with the options given for a family, and what to do."""
    faults = []
    for option, why in WITHOUT[family].items():
        if option in given:
            others = ", ".join(other for other, lacking in WITHOUT.items() if option not in lacking)
            faults.append(f"{family} has no {option}: {why}; take adapter.{option} out, or choose one of {others}")
    return faults


def refused_training(family: Family, loraplus_ratio: float, weight_decay: float) -> list[str]:
    """What is wrong with training a family so, and what to do."""
    faults = []
    if loraplus_ratio != 1 and family in ("vera", "ia3"):
        faults.append(
            f"train.loraplus_ratio is for families that train A and B (lora, rslora, dora, pissa); {family} does not: "
            "take it out, and set train.learning_rate"
        )
    if weight_decay and family in ("dora", "pissa", "ia3"):
        faults.append(
            f"train.weight_decay pulls what is trained towards zero, and with {family} that is not towards the base "
            "model; set it to 0, or choose lora, rslora or vera"
        )
    return faults


def refused_quantised(family: Family, by_mindspore: bool, is_sharded: bool) -> list[str]:
    """What cannot be done beside frozen weights in fewer bits, and what to do."""
    instead = "take model.quantization out"
    faults = []
    if family in ("dora", "pissa"):
        faults.append(f"model.quantization: {family} computes with the base's whole weights; {instead}, or choose lora")
    if by_mindspore:
        faults.append(f"model.quantization is for engine: torch; {instead}")
    if is_sharded:
        faults.append(f"model.quantization does not go with train.shard; {instead}, or set train.shard: false")
    return faults
