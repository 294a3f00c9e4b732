"""Which engine trains, and what it is told of the machine it trains on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.models import backend
from keeptune.models.activation_checkpointing import Recompute, free_bytes, total_bytes
from keeptune.models.load import device
from keeptune.models.prepacked_linear import lay_out
from keeptune.training.batches import Example
from keeptune.training.distributed import processes
from keeptune.training.loop import Trainer


def trainer_of(recipe: Recipe, model: Any, examples: Sequence[Example], folder: Path) -> Trainer:
    """A trainer of the recipe's engine for a model with its adapter, into the run directory `folder`.

    On a processor the frozen layers are laid out for it. errors: RecipeError when the engine cannot train this.
    """
    settings, seed = recipe.train, recipe.seed
    if recipe.engine == "mindspore":
        trainer: Trainer = backend.mindspore().trainer(recipe, model, examples, folder)
        return trainer
    if not settings.shard:
        lay_out(model, total_bytes(device()) // processes().beside)
    recompute = Recompute.planned(
        settings.activation_checkpointing, model, recipe.adapter.family, _free_bytes(recipe, model)
    )
    return Trainer(model, examples, settings, seed, folder, recompute, recipe.retain)


def _free_bytes(recipe: Recipe, model: Any) -> int:
    """What is free for this process's activations, with the model loaded, or with its part of it yet to come."""
    free, together = free_bytes(device()), processes()
    if device().type == "cpu":
        return free // together.beside
    if recipe.train.shard:
        free -= sum(own.numel() * own.element_size() for own in model.parameters()) // together.count
    return free
