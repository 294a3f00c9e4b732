"""Checkpoints of a training: atomic, verified by hashes, and exact to the bit when training resumes.

A checkpoint is a folder `step-N` in PEFT's layout plus the optimizer's state. It is written to a scratch folder and
then moved to its place. `complete.json`, written last, holds the size and hash of every other file. Training never
resumes from a folder without that file, or with files that do not match it, but from the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from keeptune.errors import ModelError, RunError
from keeptune.files import atomic_folder, read_regular_bytes, write_json
from keeptune.models.adapters import restore_adapter, save_adapter

COMPLETE = "complete.json"

_OPTIMIZER_FILE = "optimiser.safetensors"
_PROGRESS_FILE = "progress.json"
_RANDOM_STATE = "random_state"


@dataclass(frozen=True, slots=True)
class Progress:
    """The contents of progress.json: the steps, tokens and seconds of training so far.

    `rows_sha256` is the hash of the tokenized rows and of the plan up to this step, and `kl_weight` the weight of the
    KL term for the next step. Checkpoints of older versions do not have them.
    """

    step: int
    tokens: int
    seconds: float
    loss_scale: float = 1.0
    rows_sha256: str | None = None
    kl_weight: float | None = None


def save(folder: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes the checkpoint `folder`/step-N. No partial checkpoint remains on failure.

    Raises:
        RunError: if the checkpoint cannot be written.
    """
    with atomic_folder(folder / f"step-{progress.step}") as scratch:
        save_adapter(model, scratch)
        save_file(_optimizer_tensors(optimizer), scratch / _OPTIMIZER_FILE)
        write_json(scratch / _PROGRESS_FILE, asdict(progress))
        fingerprints = {path.name: _fingerprint(path) for path in sorted(scratch.iterdir())}
        write_json(scratch / COMPLETE, fingerprints)


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, or None."""
    return next((path for path in reversed(step_folders(folder)) if is_complete(path)), None)


def list_complete(folder: Path) -> list[Path]:
    """All checkpoints in `folder` that match their complete.json, from the first step to the last."""
    return [path for path in step_folders(folder) if is_complete(path)]


def step_folders(folder: Path) -> list[Path]:
    """All checkpoints in `folder`, complete or not, from the first step to the last."""
    folders = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(folders, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix("step-"))


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of the checkpoint has the size and hash that its complete.json states."""
    try:
        expected = json.loads(read_regular_bytes(checkpoint / COMPLETE))
        return bool(expected) and all(_fingerprint(checkpoint / name) == value for name, value in expected.items())
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def stored_hashes(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of each file, as complete.json states them; empty if that file is missing or damaged."""
    try:
        expected = json.loads(read_regular_bytes(checkpoint / COMPLETE))
        return {name: str(value["sha256"]) for name, value in expected.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return {}


def restore(checkpoint: Path, model: Any, optimizer: torch.optim.Optimizer) -> Progress:
    """Restores the adapter, the optimizer and the random state of a checkpoint, and returns its progress.

    Raises:
        RunError: if the checkpoint belongs to another adapter.
    """
    try:
        restore_adapter(model, checkpoint)
    except ModelError as error:
        raise RunError(f"{error}; use a new run directory") from None
    tensors = load_file(checkpoint / _OPTIMIZER_FILE)
    torch.set_rng_state(tensors.pop(_RANDOM_STATE))
    _restore_optimizer(optimizer, tensors)
    return Progress(**json.loads(read_regular_bytes(checkpoint / _PROGRESS_FILE)))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {_RANDOM_STATE: torch.get_rng_state()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).contiguous()
    return tensors


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _fingerprint(path: Path) -> dict[str, Any]:
    content = read_regular_bytes(path)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
