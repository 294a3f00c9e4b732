"""Averages of checkpoints: further candidates for checkpoint selection that cost no training.

The average of weights along a training trajectory often generalizes better than the last weights (stochastic weight
averaging, arXiv 1803.05407). The average `last-k` is the mean of the last k checkpoints. The average `ema` includes all
checkpoints, each with half the weight of the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from keeptune.files import atomic_folder
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS

EMA_DECAY = 0.5
"""Weight of a checkpoint relative to the next one."""


def averaged_checkpoints(checkpoints: Sequence[Path], averages: Sequence[str]) -> list[Path]:
    """Writes averages of `checkpoints` (oldest first) beside them, and returns their folders.

    Existing averages are reused. An average of more checkpoints than there are is skipped.
    """
    folders = []
    for name in averages:
        weights = checkpoint_weights(name, len(checkpoints))
        if weights:
            folders.append(_write_average(checkpoints[-len(weights) :], weights, name))
    return folders


def checkpoint_weights(average: str, count: int) -> list[float]:
    """The weights of the averaged checkpoints, oldest first, with sum 1; empty if `count` checkpoints are too few."""
    if average == "ema":
        shares = [EMA_DECAY**age for age in reversed(range(count))]
        return [share / sum(shares) for share in shares] if count > 1 else []
    size = int(average.removeprefix("last-"))
    return [1 / size] * size if size <= count else []


def _write_average(checkpoints: Sequence[Path], weights: Sequence[float], name: str) -> Path:
    folder = checkpoints[-1].parent / f"{name}-of-{checkpoints[-1].name}"
    if folder.is_dir():
        return folder
    total: dict[str, torch.Tensor] = {}
    for checkpoint, weight in zip(checkpoints, weights, strict=True):
        for key, tensor in load_file(checkpoint / ADAPTER_WEIGHTS).items():
            share = weight * tensor.double()
            total[key] = total[key] + share if key in total else share
    dtypes = {key: tensor.dtype for key, tensor in load_file(checkpoints[-1] / ADAPTER_WEIGHTS).items()}
    with atomic_folder(folder) as scratch:
        save_file(
            {key: tensor.to(dtypes[key]).contiguous() for key, tensor in total.items()}, scratch / ADAPTER_WEIGHTS
        )
        shutil.copy(checkpoints[-1] / ADAPTER_CONFIG, scratch / ADAPTER_CONFIG)
    return folder
