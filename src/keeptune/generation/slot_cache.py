"""Key-value cache with a fixed number of slots, and its size in tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from keeptune.models.attention import head_size, key_value_heads
from keeptune.models.device_memory import total_bytes

MIN_CACHE_TOKENS = 40_960
"""Minimum number of tokens that the cache holds, over all rows."""

CACHE_SHARE = 0.125
"""Share of the device memory that a larger cache may take.

With the minimum alone, long answers were decoded seven at a time, and one kind of problem took longer than all others.
"""


class SlotCache:
    """Keys and values of all running rows: the part of transformers' `past_key_values` interface that a decoder uses.

    On a processor, keys are stored transposed, in the layout of their product with the queries. In bfloat16, this
    product is then five times as fast. PyTorch's kernels for accelerators need keys like values instead. From
    transposed keys they would make a copy in float32 for each token.

    Shapes, per layer: keys (slots, kv_heads, head_size, capacity) on a processor, else (slots, kv_heads, capacity,
    head_size), as values always. A layer's first keys and values tell its numbers of heads and their sizes, which may
    differ between layers.
    """

    def __init__(self, slots: int, capacity: int, like: Tensor) -> None:
        self.slot_count, self.capacity, self.like = slots, capacity, like
        self.has_transposed_keys = like.device.type == "cpu"
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.first_slot = 0
        self.positions = torch.empty(0, 0, dtype=torch.long)

    def begin(self, first_slot: int, positions: Tensor, visible_tokens: int) -> None:
        """Prepares a forward pass of the rows from slot `first_slot` on.

        Args:
            first_slot: the slot of the first row.
            positions: the position of each new token in its row, of shape (rows, tokens).
            visible_tokens: the largest position plus one. An accelerator would have to be asked for it.
        """
        self.first_slot, self.positions, self.visible_tokens = first_slot, positions, visible_tokens
        self.slots = torch.arange(first_slot, first_slot + len(positions), device=positions.device)[:, None]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of a layer; returns all that the current rows may attend to.

        Shapes: arguments (rows, kv_heads, tokens, head_size); results (rows, kv_heads, visible_tokens, head_size).
        """
        if layer not in self.keys:
            heads, size = key.shape[1], key.shape[3]
            key_shape = (size, self.capacity) if self.has_transposed_keys else (self.capacity, size)
            self.keys[layer] = self.like.new_zeros(self.slot_count, heads, *key_shape)
            self.values[layer] = self.like.new_zeros(self.slot_count, heads, self.capacity, value.shape[3])
        rows = slice(self.first_slot, self.first_slot + len(self.positions))
        keys = self._keys(layer)
        keys[self.slots, :, self.positions] = key.transpose(1, 2)
        self.values[layer][self.slots, :, self.positions] = value.transpose(1, 2)
        return keys[rows, :, : self.visible_tokens], self.values[layer][rows, :, : self.visible_tokens]

    def _keys(self, layer: int) -> Tensor:
        """The keys of a layer, of shape (slots, kv_heads, capacity, head_size)."""
        return self.keys[layer].transpose(2, 3) if self.has_transposed_keys else self.keys[layer]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` tokens of slot `source` to slot `target`."""
        for states in (*map(self._keys, self.keys), *self.values.values()):
            states[target, :, :tokens] = states[source, :, :tokens]

    def get_seq_length(self, layer: int = 0) -> int:  # noqa: ARG002  (transformers' interface)
        """The number of cached tokens before this pass. Some decoders ask, although they are given positions."""
        return self.visible_tokens - self.positions.shape[1]


def cached_values_per_token(config: Any) -> int:
    """Number of cached values per token: its keys and values in all layers."""
    values: int = 2 * config.num_hidden_layers * key_value_heads(config) * head_size(config)
    return values


def cache_capacity_tokens(config: Any, itemsize: int, device: torch.device) -> int:
    """Number of tokens that the cache may hold: MIN_CACHE_TOKENS times a power of two.

    It depends on the total memory and not on the free memory, so that base and tuned get the same number of slots.
    Processes on one machine share its memory. `itemsize` is the number of bytes per cached value.
    """
    token_bytes = cached_values_per_token(config) * itemsize
    processes = distributed.get_world_size() if device.type == "cpu" and distributed.is_initialized() else 1
    times = max(1, int(CACHE_SHARE * total_bytes(device) / processes / (MIN_CACHE_TOKENS * token_bytes)))
    return MIN_CACHE_TOKENS << times.bit_length() - 1
