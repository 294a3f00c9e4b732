"""Checkpoints that are whole or not there, and that continue to the same bytes.

A checkpoint is a folder in PEFT's layout plus the optimiser's state. It is written beside its place and moved in;
`complete.json`, written last, holds the size and hash of every other file. A folder without it, or one whose files do
not match it, is never resumed from: the one before is.
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
from keeptune.files import atomic_folder, write_json
from keeptune.models.adapter import restore_adapter, save_adapter

COMPLETE = "complete.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training has come. With the plan of batches, which recipe and rows decide, it says what comes next.

    `rows_sha256` is the hash of the rows as tokens and of the steps taken; checkpoints of older versions have none.
    """

    step: int
    tokens: int
    seconds: float
    loss_scale: float = 1.0
    rows_sha256: str | None = None


def save(folder: Path, model: Any, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes the checkpoint `folder`/step-N. errors: RunError when it cannot be written; nothing half-written stays."""
    with atomic_folder(folder / f"step-{progress.step}") as scratch:
        save_adapter(model, scratch)
        save_file(_optimiser_tensors(optimiser), scratch / "optimiser.safetensors")
        write_json(scratch / "progress.json", asdict(progress))
        files = {path.name: _fingerprint(path) for path in sorted(scratch.iterdir())}
        write_json(scratch / COMPLETE, files)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    return next((path for path in reversed(_steps(folder)) if is_whole(path)), None)


def whole(folder: Path) -> list[Path]:
    """All checkpoints in `folder` whose files match their complete.json, from first to last."""
    return [path for path in _steps(folder) if is_whole(path)]


def _steps(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix("step-"))


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of the checkpoint has the size and hash that its complete.json states."""
    try:
        stated = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        return bool(stated) and all(_fingerprint(checkpoint / name) == print_ for name, print_ in stated.items())
    except (OSError, ValueError, AttributeError):
        return False


def restore(checkpoint: Path, model: Any, optimiser: torch.optim.Optimizer) -> Progress:
    """How far training had come; the adapter, the optimiser and the random state are as they were then.

    errors: RunError when the checkpoint belongs to another adapter.
    """
    try:
        restore_adapter(model, checkpoint)
    except ModelError as error:
        raise RunError(f"{error}; use a new run directory") from None
    tensors = load_file(checkpoint / "optimiser.safetensors")
    torch.set_rng_state(tensors.pop("random_state"))
    _restore_optimiser(optimiser, tensors)
    return Progress(**json.loads((checkpoint / "progress.json").read_text(encoding="utf-8")))


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {"random_state": torch.get_rng_state()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).contiguous()
    return tensors


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _fingerprint(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
