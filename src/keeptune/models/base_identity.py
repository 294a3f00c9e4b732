"""Identity of a base model: hashes of its stored weights and of its configuration, and its revision on the hub.

A name does not identify a model, because a folder or a branch of the hub can get other weights. The hashes depend
neither on the number format in which the weights are loaded, nor on the files among which they are divided.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from transformers.utils.hub import extract_commit_hash

from keeptune.errors import ModelError
from keeptune.files import open_regular
from keeptune.models.load import checked_source, load_errors
from keeptune.models.model_files import read_config, read_header, weight_files
from keeptune.run_files.manifest import BaseModelRecord

_IRRELEVANT = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"})
"""Keys of config.json that change no answer."""

_BLOCK_BYTES = 1 << 22


def identify(name: str) -> BaseModelRecord:
    """The identity of a model.

    Args:
        name: a model folder, a Hugging Face id, or the name of the embedded model.

    Raises:
        ModelError: if the model is missing or its files are damaged.
    """
    with load_errors(name):
        source = checked_source(name)
        config = read_config(source)
        settings = {key: value for key, value in config.to_diff_dict().items() if key not in _IRRELEVANT}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        files = weight_files(source)
        return BaseModelRecord(
            weights_sha256=_hash_weights(files),
            config_sha256=digest.hexdigest(),
            # The hub's cache has one folder per commit.
            revision=None if Path(source).is_dir() else extract_commit_hash(str(files[0]), None),
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


def _hash_weights(paths: list[Path]) -> str:
    """The hash of all tensors with their names, in the order of the names."""
    digest = hashlib.sha256()
    tensors = sorted(
        ((name, path, facts) for path in paths for name, facts in read_header(path).items()), key=lambda t: t[:2]
    )
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
