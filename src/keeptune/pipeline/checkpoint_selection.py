"""Selects the checkpoint and adapter scale with the best dev score among those that pass the gate on dev."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.errors import RunError
from keeptune.evaluation.checkpoint_averaging import averaged_checkpoints
from keeptune.evaluation.checkpoint_candidates import Candidate, select_candidate
from keeptune.generation.engine import Generator
from keeptune.pipeline.dev_evaluation import DevEvaluation
from keeptune.training import checkpoints

Load = Callable[[Path], Generator]
"""Loads the base with the adapter of a checkpoint folder."""


def select_checkpoint(
    folder: Path, recipe: Recipe, dev: DevEvaluation, tuned: Generator | None, load: Load
) -> dict[str, Any]:
    """The content of chosen.json: the selected checkpoint of `folder`, its scale, and all candidates.

    If the recipe compares no candidates, the last checkpoint is selected.
    `tuned` is the trained model if training has just ended, otherwise None.

    Raises:
        RunError: when there is no complete checkpoint.
    """
    last = checkpoints.latest(folder)
    if last is None:
        raise RunError(f"{folder}: no complete checkpoint; delete trained.json there and train again")
    if not dev.final.compares_candidates:
        return {"checkpoint": last.name, "scale": 1.0, "candidates": []}
    if tuned is None:
        tuned = load(last)
    base = dev.base_candidate(tuned)
    earlier = {path.name for path in checkpoints.list_complete(folder) if path != last}
    candidates = [candidate for candidate in dev.logged_candidates() if candidate.checkpoint in earlier]
    candidates.append(dev.candidate(tuned, last.name))
    # Checkpoints of interruptions are left out, so that resumed and uninterrupted runs average the same ones.
    every = recipe.train.checkpoint_every_steps
    regular = [
        path for path in checkpoints.list_complete(folder) if path == last or checkpoints.step_of(path) % every == 0
    ]
    for average in averaged_checkpoints(regular, recipe.select.averages):
        candidates.append(dev.candidate(load(average), average.name))
    criteria = recipe.gate.threshold, recipe.select.retention_weight
    best = select_candidate(candidates, base, *criteria).checkpoint
    for name in dict.fromkeys((best, last.name)):
        candidates += _score_scales(name, folder, recipe.select.scales, dev, load)
    chosen = select_candidate(candidates, base, *criteria)
    records = [{**asdict(candidate), "kept": candidate.retained_share(base)} for candidate in candidates]
    return {"checkpoint": chosen.checkpoint, "scale": chosen.scale, "candidates": records}


def _score_scales(
    name: str, folder: Path, scales: tuple[float, ...], dev: DevEvaluation, load: Load
) -> list[Candidate]:
    """Dev scores of one checkpoint with its adapter scaled."""
    if not scales:
        return []
    tuned, candidates = load(folder / name), []
    for scale in scales:
        with tuned.scaled(scale):
            candidates.append(dev.candidate(tuned, name, scale))
    return candidates
