"""AdamW over the adapter, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from keeptune.recipe import TrainSection

BETAS = (0.9, 0.95)


def optimiser(parameters: Iterable[nn.Parameter], settings: TrainSection) -> torch.optim.AdamW:
    """AdamW with float32 state. Its rate is set by the loop before every step."""
    return torch.optim.AdamW(parameters, lr=0.0, betas=BETAS, weight_decay=settings.weight_decay)


def learning_rate(step: int, total_steps: int, settings: TrainSection) -> float:
    """The rate of step `step` (from 0): a linear warm-up to the peak, then half a cosine down to the final share."""
    warmup_steps = math.ceil(settings.warmup_share * total_steps)
    if step < warmup_steps:
        return settings.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = settings.final_rate_share + (1 - settings.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share
