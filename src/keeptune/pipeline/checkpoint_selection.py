"""Which checkpoint is handed over, and at which scale: all that may be are asked the dev questions, and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.errors import RunError
from keeptune.evaluation.checkpoint_averaging import averaged_checkpoints
from keeptune.evaluation.checkpoint_choice import Candidate, choose
from keeptune.models import adapter as adapters
from keeptune.pipeline.dev_evaluation import DevScores
from keeptune.training import checkpoints as checkpoint

Load = Callable[[Path], Any]
"""The base with the adapter of a checkpoint."""


def handover(folder: Path, recipe: Recipe, dev: DevScores, tuned: Any | None, load: Load) -> dict[str, Any]:
    """The checkpoint of `folder` to hand over, its scale, and all that they were chosen among: chosen.json.

    Where nothing was scored during training and no scale is to be tried, there is no choice: the last as it is.
    `tuned` is the model as training left it, if that has just ended. errors: RunError without a checkpoint.
    """
    last = checkpoint.latest(folder)
    if last is None:
        raise RunError(f"{folder}: no whole checkpoint; delete trained.json there to train again")
    if not dev.final.chooses:
        return {"checkpoint": last.name, "scale": 1.0, "candidates": []}
    if tuned is None:
        tuned = load(last)
    base = dev.of_base(tuned)
    before = {path.name for path in checkpoint.whole(folder) if path != last}
    candidates = [candidate for candidate in dev.of_steps() if candidate.checkpoint in before]
    candidates.append(dev.candidate(tuned, last.name))
    # Without those of interruptions, so that an interrupted run averages what an uninterrupted one does.
    every = recipe.train.checkpoint_every_steps
    regular = [path for path in checkpoint.whole(folder) if path == last or checkpoint.step_of(path) % every == 0]
    for average in averaged_checkpoints(regular, recipe.select.averages):
        candidates.append(dev.candidate(load(average), average.name))
    wanted = recipe.gate.threshold, recipe.select.kept_weight
    best = choose(candidates, base, *wanted).checkpoint
    for name in dict.fromkeys((best, last.name)):
        candidates += _at_other_scales(name, folder, recipe.select.scales, dev, load)
    chosen = choose(candidates, base, *wanted)
    listed = [{**asdict(candidate), "kept": candidate.kept(base)} for candidate in candidates]
    return {"checkpoint": chosen.checkpoint, "scale": chosen.scale, "candidates": listed}


def _at_other_scales(name: str, folder: Path, scales: tuple[float, ...], dev: DevScores, load: Load) -> list[Candidate]:
    """A checkpoint whose adapter counts less, or more, than it was trained to."""
    if not scales:
        return []
    tuned, candidates = load(folder / name), []
    for scale in scales:
        with adapters.scaled(tuned, scale):
            candidates.append(dev.candidate(tuned, name, scale))
    return candidates
