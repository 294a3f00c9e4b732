"""The engine of a training: what computes a step. The loop around it (loop.py) is the same for all engines.

`TorchEngine` computes steps with PyTorch, in this process. keeptune.mindspore.step_engine has another engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.sharding import ShardedModel
from keeptune.training.batches import Batch, TokenizedExample, split_step
from keeptune.training.distributed import distributed_context
from keeptune.training.gradient import GradientAccumulator
from keeptune.training.kl_budget import next_weight
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.step_statistics import StepStatistics


class StepEngine(Protocol):
    """Computes the steps of a training.

    Attributes:
        optimizer: holds the optimizer state that checkpoints save and restore.
        loss_scale: the loss scale of half precision, also part of checkpoints.
        kl_weight: the weight of the KL term in the next step, also part of checkpoints.
    """

    optimizer: torch.optim.Optimizer
    loss_scale: float
    kl_weight: float

    def start(self) -> None:
        """Called once, when model and optimizer have the state of the checkpoint to resume from."""

    def step(
        self, index: int, batches: Sequence[Batch], token_weight: float, rate: float
    ) -> tuple[StepStatistics, float]:
        """Takes one step. A step with a loss or a gradient that is not finite updates nothing.

        Args:
            index: the index of the step, from 0.
            batches: all batches of the step.
            token_weight: the weight of each target token in the summed loss.
            rate: the learning rate.

        Returns:
            The step's statistics, and the norm of the gradient before clipping.
        """

    def synchronize(self, step: int) -> None:
        """Brings model and optimizer to the state after a step. Called before checkpoints and evaluations."""

    def gathered(self) -> AbstractContextManager[None]:
        """Context in which this process holds the whole model, for evaluation."""

    def stop(self) -> None:
        """Called once, when the training ends or fails."""


class TorchEngine:
    """Computes steps with PyTorch, alone or together with other processes."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[TokenizedExample],
        settings: TrainSection,
        seed: int,
        checkpointing: ActivationCheckpointing,
        retain: RetainSection,
    ) -> None:
        self.context = distributed_context()
        is_sharded = settings.shard and self.context.world_size > 1
        self.sharded_model = ShardedModel(model, self.context.device_mesh()) if is_sharded else None
        self.lengths = [len(example.tokens) for example in examples]
        self.gradient = GradientAccumulator(
            model, examples, settings, retain, seed, checkpointing, self.context, self.sharded_model
        )
        self.optimizer = create_optimizer(model, settings)
        self.kl_budget = retain.kl_budget

    @property
    def loss_scale(self) -> float:
        """The factor of the loss, which halves when a gradient overflows."""
        return self.gradient.loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float) -> None:
        self.gradient.loss_scale = value

    @property
    def kl_weight(self) -> float:
        """The weight of the KL term, which `retain.kl_budget` adapts."""
        return self.gradient.kl_weight

    @kl_weight.setter
    def kl_weight(self, value: float) -> None:
        self.gradient.kl_weight = value

    def start(self) -> None:
        """Does nothing: model and optimizer are in this process."""

    def step(
        self, index: int, batches: Sequence[Batch], token_weight: float, rate: float
    ) -> tuple[StepStatistics, float]:
        """Takes one step; see `StepEngine.step`."""
        parts = split_step(batches, self.lengths, self.context.world_size)
        statistics, norm = self.gradient.accumulate(index, parts, token_weight)
        if not statistics.non_finite_batch and math.isfinite(norm):
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.kl_budget is not None and statistics.divergence is not None:
                self.kl_weight = next_weight(self.kl_weight, statistics.divergence, self.kl_budget)
        return statistics, norm

    def synchronize(self, step: int) -> None:
        """Does nothing: model and optimizer are in this process."""

    def gathered(self) -> AbstractContextManager[None]:
        """Context in which this process holds the whole model, for evaluation."""
        return self.sharded_model.gathered() if self.sharded_model else nullcontext()

    def stop(self) -> None:
        """Does nothing: no other process was started."""
