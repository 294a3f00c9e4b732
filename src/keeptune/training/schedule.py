"""The learning-rate schedule: a pure function of the step, so that a resumed training needs no schedule state."""

from __future__ import annotations

import math

from keeptune.config.train import TrainSection


def learning_rate(step: int, total_steps: int, settings: TrainSection) -> float:
    """The learning rate of a step: linear warm-up to the peak, then half a cosine down to the final share.

    MindFormers rounds the number of warm-up steps down, and its first step has a learning rate of zero.

    Args:
        step: the index of the step, from 0.
        total_steps: the number of steps of the whole training.
        settings: the `train` section of the recipe.
    """
    if settings.optimizer == "mindformers":
        warmup_steps, completed = int(settings.warmup_share * total_steps), step
    else:
        warmup_steps, completed = math.ceil(settings.warmup_share * total_steps), step + 1
    if step < warmup_steps:
        return settings.learning_rate * completed / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = settings.final_rate_share + (1 - settings.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share
