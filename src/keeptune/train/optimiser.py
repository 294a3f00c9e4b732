"""AdamW over the adapter, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from keeptune.sections import TrainSection

BETAS = (0.9, 0.95)


def optimiser(model: nn.Module, settings: TrainSection) -> torch.optim.AdamW:
    """AdamW with float32 state over all that `model` trains. Its rate is set by the loop before every step.

    LoRA+ makes two groups: B's parameters, and the rest.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trained, "rate_ratio": 1.0}]
    if settings.loraplus_ratio != 1:
        matrices = [layer.lora_B for layer in model.modules() if isinstance(layer, LoraLayer)]
        b = {id(parameter) for matrix in matrices for parameter in matrix.parameters()}
        groups = [
            {"params": [p for p in trained if id(p) not in b], "rate_ratio": 1.0},
            {"params": [p for p in trained if id(p) in b], "rate_ratio": settings.loraplus_ratio},
        ]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, weight_decay=settings.weight_decay)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of the next step; LoRA+'s B gets its multiple of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_ratio"]


def learning_rate(step: int, total_steps: int, settings: TrainSection) -> float:
    """The rate of step `step` (from 0): a linear warm-up to the peak, then half a cosine down to the final share."""
    warmup_steps = math.ceil(settings.warmup_share * total_steps)
    if step < warmup_steps:
        return settings.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = settings.final_rate_share + (1 - settings.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share
