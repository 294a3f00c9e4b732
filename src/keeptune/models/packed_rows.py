"""Rows end to end in one, each attending to itself alone: nothing is padded.

PyTorch has flash attention's kernel for that on CUDA, in bfloat16 and half precision. Where it does not run, rows of
like length stand side by side (train/batches.py), and a few of a hundred tokens are padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn


@dataclass(frozen=True, slots=True)
class Rows:
    """Where each row begins in the one that holds them all, and at last where that ends. shape: starts (rows + 1,)."""

    starts: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Self:
        """Rows of these lengths."""
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(starts, tuple(lengths))

    def parts(self) -> list[slice]:
        """The tokens of each row."""
        return [slice(start, end) for start, end in pairwise((0, *accumulate(self.lengths)))]


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, rows: Rows, scaling: float | None = None) -> Tensor:
    """Causal attention within each row, by the kernel.

    shapes: query (1, heads, tokens, head_size); key, value (1, groups, tokens, head_size); result
    (1, tokens, heads, head_size).
    """
    longest = max(rows.lengths)
    mixed = varlen_attn(
        _flat(query),
        _flat(key),
        _flat(value),
        rows.starts,
        rows.starts,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=True,
    )
    assert isinstance(mixed, Tensor)  # It is a pair only where more is asked for.
    return mixed[None]


def _flat(states: Tensor) -> Tensor:
    """shapes: states (1, heads, tokens, head_size); result (tokens, heads, head_size)."""
    return states[0].transpose(0, 1)
