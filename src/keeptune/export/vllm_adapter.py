"""The adapter in PEFT's layout as vLLM reads it.

vLLM adds lora_alpha / r · B A on every token. It ignores other options of PEFT silently, so an adapter that needs them
is refused. It knows no adapter scale, so the scale is multiplied into lora_alpha.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from keeptune.errors import ModelError
from keeptune.files import read_json, stored_content, write_json
from keeptune.models.adapter_metadata import AdapterMetadata
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS

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


def write_vllm_adapter(adapter: Path, card: AdapterMetadata, out: Path) -> None:
    """Writes the adapter with its selected scale.

    Raises:
        ModelError: if vLLM would compute another function than keeptune.
    """
    if card.quantization:
        raise ModelError(
            f"{adapter}: was trained on weights that were rounded to {card.quantization}, and vLLM rounds them "
            "differently; export with `--to merged`"
        )
    config = read_json(adapter / ADAPTER_CONFIG)
    for option, plain in _PLAIN.items():
        if config.get(option) not in plain:
            raise ModelError(
                f"{adapter}: has {option} {config[option]}, which vLLM does not apply; export with `--to merged`"
            )
    with stored_content(adapter / ADAPTER_CONFIG):
        max_rank(adapter)
        scaled = {**config, "lora_alpha": config["lora_alpha"] * card.scale}
    write_json(out / ADAPTER_CONFIG, scaled)
    shutil.copyfile(adapter / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)


def max_rank(adapter: Path) -> int:
    """The value of vLLM's option --max-lora-rank for an adapter.

    Raises:
        ModelError: if its rank exceeds all of them.
    """
    rank = int(read_json(adapter / ADAPTER_CONFIG)["r"])
    if rank > _RANKS[-1]:
        raise ModelError(f"{adapter}: has rank {rank}, and vLLM supports up to {_RANKS[-1]}; export with `--to merged`")
    return next(supported for supported in _RANKS if supported >= rank)
