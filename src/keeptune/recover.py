"""A recipe that takes back what a run lost: its adapter, taken off what other text needs, then trained beside replay.

It is a recipe like any other, and makes a run of its own, whose adapter.start names the run that it came from. The
skill's rows are those of that run. Half of the tokens are replayed, reading and the base's own answers, with every
token of them held near the base; dev questions say which checkpoint is handed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keeptune import recipe as recipes
from keeptune.errors import RunError
from keeptune.files import read_json
from keeptune.recipe import Recipe

SCORES = 6
"""How many checkpoints are compared on dev questions."""

RETAIN = {
    "replay": ["embedded", "self"],
    "replay_share": 0.5,
    "kl_weight": 2.0,
    "kl_on": "replay",
    "project_start": 2.0,
}
"""What it trains with; every one can be changed with --set."""


def recovery_recipe(folder: Path, tokens: int, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a run that recovers what the run in `folder` lost, in `tokens` useful tokens.

    Raises:
        RunError: when that run has no verdict, has lost nothing, or has an adapter with an invocation, which loses
            nothing.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"{folder}: no result.json there; finish the run with `keeptune run` first")
    if read_json(path)["gate"]["verdict"] == "pass":
        raise RunError(f"{folder}: its verdict is pass, so there is nothing to recover")
    parent = recipes.load_stored(folder / "recipe.yaml")
    if parent.retain.activation == "invoked":
        raise RunError(f"{folder}: its adapter leaves the base as it is outside its invocation; nothing was lost there")
    tree = parent.model_dump(mode="json")
    steps = max(SCORES, tokens // parent.train.tokens_per_step)
    changes: dict[str, dict[str, Any]] = {
        "adapter": {"start": str((folder / "adapter").absolute())},
        "train": {"tokens": tokens, "score_every_steps": max(1, steps // SCORES), "patience": 0},
        "retain": RETAIN,
    }
    for section, own in changes.items():
        tree[section] |= own
    tree["name"] = f"{parent.name}-recovered"
    return recipes.parse(recipes.overridden(tree, overrides), f"the recovery of {folder}")
