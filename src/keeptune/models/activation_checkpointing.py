"""Activation memory of a training batch, and activation checkpointing for batches that do not fit.

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

from keeptune.config.train import CheckpointingPolicy
from keeptune.models.adapters import causal_model

VALUES_PER_WIDTH, VALUES_PER_MLP_WIDTH = 23.3, 4
"""Values per token and layer that are stored for the backward pass, in multiples of the hidden width and of the MLP
width.

The first counts attention and norms of a Llama block with LoRA's shared inputs. The second counts the gate of a gated
MLP, its activation, the up projection and their product. Together they are 34 hidden widths for SmolLM2-135M, whose MLP
is 2.7 times as wide, and 45 for Qwen2.5-0.5B with 5.4 times."""

FAMILY_FACTORS = {"dora": 2.6, "vera": 1.6}
"""Stored values relative to LoRA. Measured with SmolLM2-135M on one core: 2.7 and 1.9 GB instead of 1.4."""

CPU_ALLOCATOR_OVERHEAD = 1.3
"""Allocated memory relative to needed memory on a CPU, where the process retains freed blocks (models/allocator.py) and
not every new block fits into them. Measured for training and evaluation of SmolLM2-135M with rows of 500 and of 5,600
tokens: 1.2 to 1.4."""

BYTES_PER_TRAINABLE_PARAMETER = 16
"""The parameter, its gradient and two moments of Adam, in float32."""


def mlp_width(config: Any) -> int:
    """The width of the MLP; four times the hidden width where the configuration does not name it."""
    width: int = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return width


def stored_activations(config: Any, family: str, tokens: int, is_checkpointed: bool = False) -> float:
    """The number of values that a batch of `tokens` padded tokens stores for the backward pass."""
    per_token = VALUES_PER_WIDTH * config.hidden_size + VALUES_PER_MLP_WIDTH * mlp_width(config)
    layer: float = tokens * per_token * FAMILY_FACTORS.get(family, 1)
    layers: int = config.num_hidden_layers
    inputs: float = tokens * config.hidden_size * layers
    return layer + inputs if is_checkpointed else layer * layers


def allocator_overhead(device: torch.device) -> float:
    """Allocated memory relative to needed memory."""
    return CPU_ALLOCATOR_OVERHEAD if device.type == "cpu" else 1.0


@dataclass(frozen=True, slots=True)
class ActivationCheckpointing:
    """Which batches use activation checkpointing: those of more than `threshold_tokens` padded tokens."""

    threshold_tokens: float

    @classmethod
    def plan(cls, policy: CheckpointingPolicy, model: Any, family: str, free_bytes: int) -> Self:
        """The threshold for a model with its adapter and an amount of free memory."""
        if policy != "auto":
            return cls(0 if policy == "always" else float("inf"))
        trainable = [p for p in model.parameters() if p.requires_grad]
        # The parameters themselves, 4 bytes each, are already allocated.
        adapter_bytes = (BYTES_PER_TRAINABLE_PARAMETER - 4) * sum(p.numel() for p in trainable)
        available = free_bytes / allocator_overhead(trainable[0].device) - adapter_bytes
        value_bytes = next(p for p in model.parameters() if not p.requires_grad).element_size()
        return cls(max(0, available / (stored_activations(model.config, family, 1) * value_bytes)))

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
