"""The recipe of `keeptune recover`, which restores the abilities that a run lost.

The new run starts from the adapter of the failed run (`adapter.start`). The adapter is first projected away from the
inputs of replayed rows (training/projection.py). It gets as many new ranks as it has, which learn ten times as fast as
the old ones (training/start_ranks.py). Training then continues on the same skill rows, and half of the tokens are
replayed. A third of the replayed rows are answers of the adapter itself. On replayed rows, only the KL term to the base
is trained, which on these answers is on-policy distillation. Dev questions select the checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.errors import RunError
from keeptune.files import read_json
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.result import Result

SCORES = 6
"""Number of checkpoints that are compared on dev questions."""

RANK_GROWTH = 2
"""The rank of the new adapter, relative to the old one."""

START_RATE_RATIO = 0.1
"""The learning rate of the old ranks, relative to that of the new ones."""

RETAIN = {
    "replay": ["embedded", "self", "on_policy"],
    "replay_share": 0.5,
    "replay_target": "distribution",
    "kl_weight": 4.0,
    "kl_tokens": "replay",
    "project_start": 10.0,
}
"""The keys of the section `retain`; --set overrides each."""


def recovery_recipe(folder: Path, tokens: int, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe that recovers the run in `folder` with `tokens` non-padding training tokens.

    Raises:
        RunError: if the run has no verdict or has passed, or if its adapter has an invocation or is no plain LoRA.
    """
    folder = Path(os.path.normpath(folder.absolute()))
    directory = RunDirectory(folder)
    if not directory.result.is_file():
        raise RunError(f"{folder}: no result.json in it; finish the run with `keeptune run` first")
    if read_json(directory.result, Result)["gate"]["verdict"] == "pass":
        raise RunError(f"{folder}: its verdict is pass, so there is nothing to recover")
    parent = recipes.load_stored(directory.recipe)
    if parent.retain.activation == "invoked":
        raise RunError(f"{folder}: its adapter does not act without its invocation, so there is nothing to recover")
    if not parent.adapter.is_plain_lora:
        raise RunError(f"{folder}: only lora and rslora without dropout can be recovered; train with retain.replay")
    tree = parent.model_dump(mode="json")
    steps = max(SCORES, tokens // parent.train.tokens_per_step)
    changes: dict[str, dict[str, Any]] = {
        "adapter": {
            "start": str(directory.adapter),
            "start_rate_ratio": START_RATE_RATIO,
            "rank": RANK_GROWTH * parent.adapter.rank,
            "alpha": RANK_GROWTH * parent.adapter.alpha,
        },
        "train": {"tokens": tokens, "score_every_steps": max(1, steps // SCORES), "patience": 0},
        "retain": RETAIN,
    }
    for section, keys in changes.items():
        tree[section] |= keys
    tree |= {"name": f"{parent.name}-recovered", "engine": "torch"}
    return recipes.with_absolute_paths(
        recipes.parse(recipes.with_overrides(tree, overrides), f"the recovery of {folder}"), Path.cwd()
    )
