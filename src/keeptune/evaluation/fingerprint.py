"""Fingerprints of models and adapters: hashes and names of everything that their answers depend on.

They are the keys under which generation/record_cache.py stores evaluation records.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from keeptune.environment import hardware
from keeptune.files import file_sha256
from keeptune.generation.record_cache import RecordCache, code_fingerprint, sha256_of
from keeptune.models.load import cache_folder, end_tokens_of, weights_sha256
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def model_fingerprint(base: Any, tokenizer: Any) -> dict[str, Any]:
    """The fingerprint of a base model without adapter: weights, configuration, tokenizer and machine.

    The machine is part of it, because another order of summation can select another token where two are almost equally
    likely.
    """
    machine = hardware()
    vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else tokenizer.get_vocab()
    return {
        "weights": weights_sha256(base),
        "configuration": sha256_of(_configuration(base)),
        "tokenizer": sha256_of([vocabulary, end_tokens_of(base, tokenizer)]),
        "machine": [machine["cpu"], machine["accelerator"], torch.get_num_threads()],
    }


def _configuration(base: Any) -> dict[str, Any]:
    """The configuration that determines the computation, such as the rotary base, without the path of the model."""
    configuration: dict[str, Any] = json.loads(base.config.to_json_string(use_diff=False))
    return {key: value for key, value in configuration.items() if key not in ("_name_or_path", "transformers_version")}


def record_cache(base: Any, tokenizer: Any) -> RecordCache:
    """The cache of evaluation records of this base model, on this machine and with this code."""
    return RecordCache(cache_folder() / "scores", {**code_fingerprint(), **model_fingerprint(base, tokenizer)})


def adapter_fingerprint(folder: Path | None, scale: float) -> dict[str, Any]:
    """The fingerprint of an adapter at a scale. Without an adapter, or at scale 0, the model is its base."""
    if folder is None or scale == 0:
        return {"adapter": None}
    files = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    return {"adapter": [*(file_sha256(folder / name) for name in files), scale]}
