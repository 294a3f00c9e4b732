"""The optimizer over the trainable parameters of a model. `schedule.py` holds the learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from keeptune.config.train import TrainSection
from keeptune.training.adam_without_bias_correction import AdamWithoutBiasCorrection

BETAS = (0.9, 0.95)
EPSILON = 1e-8
"""The contest's MindFormers configurations have the same betas and the same epsilon."""


def create_optimizer(model: nn.Module, settings: TrainSection) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, with float32 state, over all trainable parameters of `model`.

    Its learning rate is 0 until `set_learning_rate` sets the rate of a step. LoRA+ needs two parameter groups: the B
    matrices, and all other parameters.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": trainable, "rate_ratio": 1.0}]
    if settings.loraplus_ratio != 1:
        matrices = [layer.lora_B for layer in model.modules() if isinstance(layer, LoraLayer)]
        b_ids = {id(parameter) for matrix in matrices for parameter in matrix.parameters()}
        groups = [
            {"params": [p for p in trainable if id(p) not in b_ids], "rate_ratio": 1.0},
            {"params": [p for p in trainable if id(p) in b_ids], "rate_ratio": settings.loraplus_ratio},
        ]
    if settings.optimizer == "mindformers":
        return AdamWithoutBiasCorrection(groups, 0.0, BETAS, EPSILON, settings.weight_decay)
    # On CUDA, one kernel updates all parameters.
    is_fused = True if trainable[0].is_cuda else None
    return torch.optim.AdamW(
        groups, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=settings.weight_decay, fused=is_fused
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of the next step. LoRA+'s group of B matrices gets its multiple of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_ratio"]
