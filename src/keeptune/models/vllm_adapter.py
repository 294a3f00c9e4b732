"""Adapters in PEFT's layout as vLLM reads them.

vLLM adds lora_alpha / r · B A on every token. It ignores other options of PEFT silently, so an adapter that needs them
is refused. It knows no adapter scale, so the scale is multiplied into lora_alpha.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keeptune.errors import ModelError
from keeptune.files import read_json, stored_content
from keeptune.run_files.directory import ADAPTER_CONFIG

_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    **dict.fromkeys(
        (
            "use_dora",
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "trainable_token_indices",
            "alora_invocation_tokens",
        ),
        (None, False, {}, []),
    ),
}
"""Options of PEFT that vLLM does not apply, and their values in adapters that need none of them."""

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's option --max-lora-rank."""


def require_unquantized(subject: str, quantization: str | None, remedy: str) -> None:
    """Refuses a model or an adapter whose base was rounded to the format `quantization`.

    Raises:
        ModelError: unless `quantization` is None.
    """
    if quantization:
        raise ModelError(
            f"{subject}: the base's weights are rounded to {quantization}, and vLLM rounds them differently; {remedy}"
        )


def vllm_config(adapter: Path, scale: float, remedy: str) -> dict[str, Any]:
    """The contents of adapter_config.json for vLLM.

    Args:
        adapter: a PEFT adapter folder.
        scale: the factor of its change.
        remedy: what to do with an adapter that is refused, for the error message.

    Raises:
        ModelError: if vLLM would compute another function than keeptune.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    for option, plain in _PLAIN.items():
        if config.get(option) not in plain:
            raise ModelError(f"{adapter}: has {option} {config[option]}, which vLLM does not apply; {remedy}")
    with stored_content(adapter / ADAPTER_CONFIG):
        rank, alpha = int(config["r"]), config["lora_alpha"] * scale
    if rank > _RANKS[-1]:
        raise ModelError(f"{adapter}: has rank {rank}, and vLLM supports up to {_RANKS[-1]}; {remedy}")
    return {**config, "lora_alpha": alpha}


def max_rank(config: dict[str, Any]) -> int:
    """The value of vLLM's option --max-lora-rank for an adapter with this adapter_config.json, from `vllm_config`."""
    return next(supported for supported in _RANKS if supported >= int(config["r"]))
