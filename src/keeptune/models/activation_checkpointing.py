"""Activation checkpointing for batches that do not fit in memory (models/activation_memory.py).

With activation checkpointing, each layer stores only its input and computes its activations again in the backward pass.
That costs half as much work again, because frozen weights need no gradient and the backward pass is no more expensive
than the forward pass. The result is the same, so the choice is made per batch: a few long rows do not slow down others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch

from keeptune.models.activation_memory import ActivationMemory
from keeptune.models.adapters import causal_model

CPU_ALLOCATOR_OVERHEAD = 1.3
"""Allocated memory relative to needed memory on a CPU, where the process retains freed blocks (models/allocator.py) and
not every new block fits into them. Measured for training and evaluation of SmolLM2-135M with rows of 500 and of 5,600
tokens: 1.2 to 1.4."""

BYTES_PER_TRAINABLE_PARAMETER = 16
"""The parameter, its gradient and two moments of Adam, in float32."""


def allocator_overhead(device: torch.device) -> float:
    """Allocated memory relative to needed memory."""
    return CPU_ALLOCATOR_OVERHEAD if device.type == "cpu" else 1.0


@dataclass(frozen=True, slots=True)
class ActivationCheckpointing:
    """Which batches use activation checkpointing: those of more than `threshold_tokens` padded tokens."""

    threshold_tokens: float

    @classmethod
    def plan(cls, model: Any, memory: ActivationMemory, free_bytes: int) -> Self:
        """The threshold for a model with its adapter and an amount of free memory."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        # The parameters themselves, 4 bytes each, are already allocated.
        adapter_bytes = (BYTES_PER_TRAINABLE_PARAMETER - 4) * sum(p.numel() for p in trainable)
        available = free_bytes / allocator_overhead(trainable[0].device) - adapter_bytes
        return cls(memory.largest_batch(available))

    def applies_to(self, tokens: int) -> bool:
        """Whether a batch of `tokens` padded tokens uses activation checkpointing."""
        return tokens > self.threshold_tokens

    @contextmanager
    def apply(self, model: Any, tokens: int) -> Iterator[None]:
        """Enables activation checkpointing of a model in training, if the batch uses it."""
        if not self.applies_to(tokens):
            yield
            return
        causal = causal_model(model)
        causal.activation_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            causal.activation_checkpointing_disable()
