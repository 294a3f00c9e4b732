"""Creates the trainer of the engine that the recipe names, configured for the memory of this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.models import adapters, backend
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.activation_memory import estimate
from keeptune.models.device_memory import CARD_RESERVE_BYTES, free_bytes, is_card, total_bytes
from keeptune.models.load import device
from keeptune.models.prepacked_linear import prepack_weights
from keeptune.training.batches import TokenizedExample
from keeptune.training.distributed import distributed_context
from keeptune.training.loop import Trainer
from keeptune.training.loss import CARD_CHUNK_VALUES, TRAINED_LOGIT_BYTES
from keeptune.training.start_ranks import slow_start_ranks
from keeptune.training.step_engine import StepEngine


def create_trainer(recipe: Recipe, model: Any, examples: Sequence[TokenizedExample], folder: Path) -> Trainer:
    """A trainer for a model with its adapter. It writes into the run directory `folder`.

    On a CPU, the weights of frozen layers are prepacked first.

    Raises:
        RecipeError: if the engine cannot train this recipe.
    """
    settings, seed = recipe.train, recipe.seed
    if recipe.engine == "mindspore":
        engine: StepEngine = backend.mindspore().step_engine(recipe, model, examples, folder)
        return Trainer(model, examples, settings, seed, folder, engine=engine)
    if not settings.shard:
        prepack_weights(model, total_bytes(device()) // distributed_context().local_world_size)
    checkpointing = _checkpointing(recipe, model)
    trainer = Trainer(model, examples, settings, seed, folder, checkpointing, recipe.retain)
    if recipe.adapter.start_rate_ratio != 1:
        ranks, ratio = adapters.start_ranks(recipe.adapter), recipe.adapter.start_rate_ratio
        slow_start_ranks(trainer.engine.optimizer, model, ranks, ratio)
    return trainer


def _checkpointing(recipe: Recipe, model: Any) -> ActivationCheckpointing:
    """Which batches use activation checkpointing."""
    policy = recipe.train.activation_checkpointing
    if policy != "auto":
        return ActivationCheckpointing(0 if policy == "always" else math.inf)
    number_format = model.get_input_embeddings().weight.dtype
    memory = estimate(model.config, recipe.adapter, number_format, device())
    return ActivationCheckpointing.plan(model, memory, _free_bytes(recipe, model))


def _free_bytes(recipe: Recipe, model: Any) -> int:
    """The memory that is free for the activations of this process.

    The model is already loaded, unless it is sharded: then this process still has to load its part.
    """
    free, context = free_bytes(device()), distributed_context()
    if not is_card(device()):
        return free // context.local_world_size
    if recipe.train.shard:
        free -= sum(weight.numel() * weight.element_size() for weight in model.parameters()) // context.world_size
    return free - CARD_RESERVE_BYTES - CARD_CHUNK_VALUES * TRAINED_LOGIT_BYTES
