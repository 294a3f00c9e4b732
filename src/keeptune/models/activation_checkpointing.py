"""What a batch keeps for its backward pass, and computing it twice where there is no room for it.

A layer can forget what it computed and compute it again on the way back. Of each layer only its input is kept then, for
half as much work again, because frozen weights need no gradient and backward is no dearer than forward. The result
is the same, so that is decided batch by batch: a few long rows do not slow down all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import torch

from keeptune.config.train import CheckpointingPolicy
from keeptune.models.adapter import causal_model

OF_WIDTH, OF_MLP = 23.3, 4
"""Values a token and layer keeps for the backward pass, in multiples of the model's width and of its MLP's: attention
and norms of a Llama block, with LoRA's own inputs shared; a gated MLP's gate, its activation, the other half and their
product. Together 34 widths of SmolLM2-135M, whose MLP is 2.7 times as wide; 45 of Qwen2.5-0.5B's, with 5.4 times."""

FAMILIES = {"dora": 2.6, "vera": 1.6}
"""What they keep, as a multiple of LoRA's: measured with SmolLM2-135M on one core, 2.7 and 1.9 GB instead of 1.4."""

KEPT_MEMORY = 1.3
"""On a processor freed blocks stay with the process, and not every new one fits into them (model/memory.py): 1.2 to 1.4
in the training and in the scores of SmolLM2-135M, with rows of 500 tokens and of 5,600."""

ADAPTER_BYTES = 16
"""Of a trainable parameter: itself, its gradient and two moments of Adam."""

OF_THE_MACHINE = ("cpu", "mps")
"""Devices without a memory of their own."""

_CGROUP = Path("/sys/fs/cgroup")


def kept_values(config: Any, family: str, tokens: int, recomputed: bool = False) -> float:
    """The values that so many padded tokens keep for the backward pass."""
    mlp: int = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    layer: float = tokens * (OF_WIDTH * config.hidden_size + OF_MLP * mlp) * FAMILIES.get(family, 1)
    layers: int = config.num_hidden_layers
    inputs: float = tokens * config.hidden_size * layers
    return layer + inputs if recomputed else layer * layers


def kept_memory(device: torch.device) -> float:
    """How much is held for all that is needed, as a multiple."""
    return KEPT_MEMORY if device.type == "cpu" else 1.0


def head_size(config: Any) -> int:
    """The width of one attention head."""
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def total_bytes(device: torch.device) -> int:
    """The accelerator's memory, or the machine's, or what a container is given of it."""
    if device.type not in OF_THE_MACHINE:
        return int(torch.accelerator.get_memory_info(device)[1])
    total: int = psutil.virtual_memory().total
    try:
        return min(total, int(_container("max")))
    except (OSError, ValueError):  # no container, or one without a limit (`max`)
        return total


def free_bytes(device: torch.device) -> int:
    """What can still be had: of the accelerator's memory, or of the machine's, or of what a container is given."""
    if device.type not in OF_THE_MACHINE:
        return int(torch.accelerator.get_memory_info(device)[0])
    free: int = psutil.virtual_memory().available
    try:
        limit, used, stat = map(_container, ("max", "current", "stat"))
        # Files that were read and are in no use count as used, and give way: model weights, for instance.
        idle = dict(line.split() for line in stat.splitlines()).get("inactive_file", "0")
        return min(free, int(limit) - int(used) + int(idle))
    except (OSError, ValueError):  # no container, or one without a limit (`max`)
        return free


def _container(name: str) -> str:
    """What the kernel says of this container's memory."""
    return (_CGROUP / f"memory.{name}").read_text(encoding="ascii")


@dataclass(frozen=True, slots=True)
class Recompute:
    """Which batches compute their activations twice: those of more than `over_tokens` padded tokens."""

    over_tokens: float

    @classmethod
    def planned(cls, policy: CheckpointingPolicy, model: Any, family: str, free: int) -> Self:
        """For a model in training and so much free memory."""
        if policy != "auto":
            return cls(0 if policy == "always" else float("inf"))
        trainable = [p for p in model.parameters() if p.requires_grad]
        room = free / kept_memory(trainable[0].device) - (ADAPTER_BYTES - 4) * sum(p.numel() for p in trainable)
        value_bytes = next(p for p in model.parameters() if not p.requires_grad).element_size()
        return cls(max(0, room / (kept_values(model.config, family, 1) * value_bytes)))

    def wanted(self, tokens: int) -> bool:
        """Whether a batch of so many padded tokens is one of them."""
        return tokens > self.over_tokens

    @contextmanager
    def around(self, model: Any, tokens: int) -> Iterator[None]:
        """While it lasts, the layers of a model in training forget what they compute, if the batch is one of them."""
        if not self.wanted(tokens):
            yield
            return
        causal = causal_model(model)
        causal.activation_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            causal.activation_checkpointing_disable()
