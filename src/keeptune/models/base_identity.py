"""Identity of a base model: hashes of its stored weights and of its configuration, and its revision on the hub.

A name does not identify a model, because a folder or a branch of the hub can get other weights. The hashes depend
neither on the number format in which the weights are loaded, nor on the files among which they are divided.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.utils.hub import cached_file

from keeptune.errors import ModelError
from keeptune.files import open_regular, read_regular_bytes
from keeptune.models.load import load_errors, resolve
from keeptune.run_files.manifest import BaseModelRecord

_WEIGHT_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""Files of weights, in the order in which transformers looks for them. An index names the files of a divided model."""

_IRRELEVANT = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"})
"""Keys of config.json that change no answer."""

_BLOCK_BYTES = 1 << 22
_MAX_HEADER_BYTES = 100_000_000


def identify(name: str) -> BaseModelRecord:
    """The identity of a model.

    Args:
        name: a model folder, a Hugging Face id, or the name of the embedded model.

    Raises:
        ModelError: if the model is missing or its files are damaged.
    """
    with load_errors(name):
        source = resolve(name)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        settings = {key: value for key, value in config.to_diff_dict().items() if key not in _IRRELEVANT}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        return BaseModelRecord(
            weights_sha256=_hash_weights(_weight_files(source)),
            config_sha256=digest.hexdigest(),
            revision=getattr(config, "_commit_hash", None),
        )


def require_same(expected: BaseModelRecord | None, name: str, user: str) -> None:
    """Checks that a base model is the one that an adapter or a run was made with.

    Args:
        expected: the stored identity; None for adapters and runs of older versions, which are not checked.
        name: the base model.
        user: the run or adapter, for the message.

    Raises:
        ModelError: if weights or configuration differ, with both hashes.
    """
    if expected is not None:
        check_equal(expected, identify(name), name, user)


def check_equal(expected: BaseModelRecord, current: BaseModelRecord, name: str, user: str) -> None:
    """As `require_same`, where the current identity is known."""
    if message := difference(expected, current):
        raise ModelError(
            f"{user}: its base model {name} has changed: {message}; restore the model that it was trained on"
        )


def difference(expected: BaseModelRecord, current: BaseModelRecord) -> str:
    """How two identities differ, with both hashes; empty if they are the same model."""
    parts = []
    for what, key in (("weights", "weights_sha256"), ("config.json", "config_sha256")):
        before, now = getattr(expected, key), getattr(current, key)
        if before != now:
            parts.append(f"{what} had SHA-256 {before} and now have {now}")
    if parts and expected.revision != current.revision:
        parts.append(f"revision {expected.revision} then, {current.revision} now")
    return ", ".join(parts)


def _weight_files(source: str) -> list[Path]:
    for name in _WEIGHT_FILES:
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if path is None:
            continue
        if not name.endswith(".json"):
            return [Path(path)]
        shards = sorted(set(json.loads(read_regular_bytes(Path(path)))["weight_map"].values()))
        return [Path(str(cached_file(source, shard))) for shard in shards]
    raise OSError(f"no {' or '.join(name for name in _WEIGHT_FILES if not name.endswith('.json'))}")


def _hash_weights(paths: list[Path]) -> str:
    """The hash of all tensors with their names, in the order of the names; of other formats than safetensors, of all
    bytes."""
    digest = hashlib.sha256()
    if any(path.suffix != ".safetensors" for path in paths):
        for path in paths:
            digest.update(hashlib.sha256(read_regular_bytes(path)).digest())
        return digest.hexdigest()
    tensors = sorted(((name, path, facts) for path in paths for name, facts in _read_header(path)), key=lambda t: t[:2])
    for name, path, facts in tensors:
        digest.update(f"{name} {facts['dtype']} {facts['shape']}".encode())
        with open_regular(path) as file:
            start, end = facts["data_offsets"]
            file.seek(start)
            while start < end:
                block = file.read(min(_BLOCK_BYTES, end - start))
                if not block:
                    raise ValueError(f"{path.name} is truncated")
                digest.update(block)
                start += len(block)
    return digest.hexdigest()


def _read_header(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tensors of a safetensors file with their type, shape, and place in the file.

    Format: https://github.com/huggingface/safetensors (8 bytes length, JSON header, data).
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is damaged")
        header = json.loads(file.read(size))
    for name, facts in header.items():
        if name != "__metadata__":
            start, end = facts["data_offsets"]
            yield name, {**facts, "data_offsets": (8 + size + start, 8 + size + end)}
