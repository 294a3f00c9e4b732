"""Checks of the files of models and adapters, before transformers and PEFT read them.

Other people wrote these files. Weights are read from safetensors only, because pickle can hold code. No file names code
or kernels to run. Sizes are bounded before anything of that size is created.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.utils.hub import cached_file

from keeptune.errors import ModelError, RunError
from keeptune.files import open_regular, read_json, read_regular_bytes
from keeptune.grading.timed_patterns import has_nested_repetition, pattern_fault
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""Files of weights. An index names the files of a divided model."""

_KERNEL_SWITCHES = ("use_kernels", "kernel_config")
"""Keys of config.json that replace layers by kernels from the hub."""

_COUNTED = re.compile(r"layer|expert|head")
_MAX_COUNT = 10_000
"""The largest number of layers, heads or experts. Each is an object, and the largest models have hundreds."""

_MAX_HEADER_BYTES = 100_000_000

_UNSUPPORTED_OPTIONS = {
    "lora_bias": "keeptune does not apply biases",
    "layer_replication": "it changes the layers of the base model",
    "megatron_config": "it names a package to import",
}
"""Options of PEFT that are refused, each with the reason."""


def read_config(source: str) -> Any:
    """The configuration of a model folder or hub id.

    Raises:
        ValueError: if it names code, kernels or other weights to load, or a number of layers that no model has.
        OSError: if it cannot be read.
    """
    raw, _ = PreTrainedConfig.get_config_dict(source)
    # Before the configuration is created, which makes lists of as many entries.
    for key, value in _leaves(raw):
        if _COUNTED.search(key) and isinstance(value, int) and value > _MAX_COUNT:
            raise ValueError(f"config.json: {key} must be at most {_MAX_COUNT:,} (got {str(value)[:40]})")
        if key == "transformers_weights" and value:
            raise ValueError(f"config.json sets {key}; keeptune reads {WEIGHTS} or {WEIGHTS_INDEX}, so remove the key")
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    _require_no_kernels(config)
    return config


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of a configuration and of those in it, such as `text_config`."""
    for key, value in tree.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _leaves(value)


def _require_no_kernels(config: Any) -> None:
    """Raises ValueError if config.json names kernels, which transformers would download from the hub and run."""
    tree = config.to_dict()
    for part in (tree, *(value for value in tree.values() if isinstance(value, dict))):
        for key in _KERNEL_SWITCHES:
            if part.get(key):
                raise ValueError(f"config.json sets {key}; keeptune runs no kernels from a hub, so remove the key")
    for key in ("attn_implementation", "experts_implementation"):
        value = str(getattr(config, f"_{key}", None))
        if "/" in value or ":" in value:
            raise ValueError(f"config.json sets {key} to {value[:60]!r}, a kernel on a hub; remove the key")


def require_regular_files(folder: Path) -> None:
    """Raises ValueError if a folder holds a pipe or a device, which a program would wait for."""
    for path in sorted(folder.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError(f"{path.name} is not a regular file but a pipe or a device")


def weight_names(source: str) -> list[str]:
    """The names of the safetensors files of a model folder or hub id.

    Raises:
        ValueError: if there are none, or an index names other files.
    """
    if _stored_file(source, WEIGHTS) is not None:
        return [WEIGHTS]
    index = _stored_file(source, WEIGHTS_INDEX)
    if index is None:
        raise ValueError(
            f"no {WEIGHTS} or {WEIGHTS_INDEX}; keeptune reads no pickled weights (*.bin), so save the model with "
            "`save_pretrained`"
        )
    names = sorted(set(map(str, json.loads(read_regular_bytes(index))["weight_map"].values())))
    if others := [name for name in names if Path(name).name != name or Path(name).suffix != ".safetensors"]:
        raise ValueError(f"{WEIGHTS_INDEX} names {others[0][:60]!r}, which is no safetensors file of the folder")
    return names


def weight_files(source: str) -> list[Path]:
    """The safetensors files of a model; those of a hub are downloaded.

    Raises:
        ValueError: as `weight_names`.
    """
    return [Path(str(cached_file(source, name))) for name in weight_names(source)]


def _stored_file(source: str, name: str) -> Path | None:
    # Without a network, a file that the cache lacks is a connection error.
    path = cached_file(
        source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if path is None else Path(path)


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file: type, shape, and place in the file.

    Format: https://github.com/huggingface/safetensors (8 bytes length, JSON header, data).

    Raises:
        ValueError: if the header is damaged.
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is damaged: a header of {size:,} bytes")
        header = json.loads(file.read(size))
    tensors = {}
    for name, facts in header.items():
        if name != "__metadata__":
            start, end = facts["data_offsets"]
            tensors[name] = {**facts, "data_offsets": (8 + size + start, 8 + size + end)}
    return tensors


def check_adapter(folder: Path) -> None:
    """Checks an adapter folder, in PEFT's layout, before PEFT reads it.

    Raises:
        ModelError: if weights are not in safetensors, an option is not supported, a size exceeds the weights, or a
            pattern may take too long.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelError(f"{folder}: no {ADAPTER_CONFIG}; give a folder with an adapter in PEFT's layout")
    try:
        config = read_json(path)
    except RunError as error:
        raise ModelError(str(error)) from None
    for option, reason in _UNSUPPORTED_OPTIONS.items():
        if config.get(option):
            raise ModelError(
                f"{folder}: {option} in {ADAPTER_CONFIG} is not supported ({reason}); train the adapter without it"
            )
    try:
        _check_sizes(config, read_header(folder / ADAPTER_WEIGHTS))
        _check_patterns(config)
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no {ADAPTER_WEIGHTS}; keeptune reads no pickled weights, so save the adapter as safetensors"
        ) from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, re.error) as error:
        raise ModelError(f"{folder}: the adapter is damaged or does not fit ({error})") from None


def _check_sizes(config: Mapping[str, Any], header: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError if PEFT would create larger matrices than the file has."""
    largest = max((size for facts in header.values() for size in facts["shape"]), default=0)
    ranks = {f"rank_pattern of {key!r}": value for key, value in (config.get("rank_pattern") or {}).items()}
    for name, value in {"r": config.get("r"), "num_virtual_tokens": config.get("num_virtual_tokens"), **ranks}.items():
        if value is not None and not 0 <= value <= largest:
            raise ValueError(f"{name} is {str(value)[:40]}, but no stored tensor has more than {largest:,} rows")


def _check_patterns(config: Mapping[str, Any]) -> None:
    """Raises ValueError if a pattern of the configuration is none, or may take too long on a module's name.

    PEFT matches patterns with `re`, which has no time limit.
    """
    targets = [config.get(key) for key in ("target_modules", "exclude_modules", "feedforward_modules")]
    keys = [key for name in ("rank_pattern", "alpha_pattern") for key in config.get(name) or {}]
    for pattern in (*(target for target in targets if isinstance(target, str)), *keys):
        if fault := pattern_fault(pattern):
            raise ValueError(f"{pattern[:60]!r} is not a regular expression: {fault}")
        if has_nested_repetition(pattern):
            raise ValueError(f"the pattern {pattern[:60]!r} repeats a part that varies, which can take years")
