"""The optimiser over the adapter, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from keeptune.config.train import TrainSection
from keeptune.training.adam_without_bias_correction import UncorrectedAdam

BETAS = (0.9, 0.95)
EPSILON = 1e-8
"""Both are also those of the contest's MindFormers configurations."""


def optimiser(model: nn.Module, settings: TrainSection) -> torch.optim.Optimizer:
    """The recipe's optimiser, with float32 state, over all that `model` trains. The loop sets its rate before a step.

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
    made = UncorrectedAdam if settings.optimizer == "mindformers" else torch.optim.AdamW
    return made(groups, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=settings.weight_decay)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of the next step; LoRA+'s B gets its multiple of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_ratio"]


def learning_rate(step: int, total_steps: int, settings: TrainSection) -> float:
    """The rate of step `step` (from 0): a linear warm-up to the peak, then half a cosine down to the final share.

    MindFormers rounds the steps of the warm-up down and takes the first of them at a rate of zero.
    """
    if settings.optimizer == "mindformers":
        warmup_steps, climbed = int(settings.warmup_share * total_steps), step
    else:
        warmup_steps, climbed = math.ceil(settings.warmup_share * total_steps), step + 1
    if step < warmup_steps:
        return settings.learning_rate * climbed / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = settings.final_rate_share + (1 - settings.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * share
