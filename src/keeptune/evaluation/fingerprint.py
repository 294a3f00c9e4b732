"""What a model's answers depend on, as hashes and names: the facts under which they may be used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from keeptune.environment import hardware
from keeptune.files import file_sha256
from keeptune.generation.record_cache import RecordCache, code_facts, sha256_of
from keeptune.models.load import cache_folder, weights_sha256


def model_facts(base: Any, tokenizer: Any) -> dict[str, Any]:
    """Of a base model without an adapter: its weights and their format, how they are used, its tokenizer, and the
    machine that computes.

    The machine counts, because another order of summation can pick another token where two are nearly as likely.
    """
    machine = hardware()
    words = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else tokenizer.get_vocab()
    return {
        "weights": weights_sha256(base),
        "configuration": sha256_of(_configuration(base)),
        "tokenizer": sha256_of([words, tokenizer.eos_token_id]),
        "machine": [machine["cpu"], machine["accelerator"], torch.get_num_threads()],
    }


def _configuration(base: Any) -> dict[str, Any]:
    """What is computed with the weights, such as the base of the rotary positions; not where they lay."""
    told: dict[str, Any] = json.loads(base.config.to_json_string(use_diff=False))
    return {key: value for key, value in told.items() if key not in ("_name_or_path", "transformers_version")}


def record_cache(base: Any, tokenizer: Any) -> RecordCache:
    """The records that were made with this base before, on this machine and by this code."""
    return RecordCache(cache_folder() / "scores", {**code_facts(), **model_facts(base, tokenizer)})


def adapter_facts(folder: Path | None, scale: float) -> dict[str, Any]:
    """Of the adapter that is on; without one, or where it counts nothing, the model is its base."""
    if folder is None or scale == 0:
        return {"adapter": None}
    files = ("adapter_config.json", "adapter_model.safetensors")
    return {"adapter": [*(file_sha256(folder / name) for name in files), scale]}
