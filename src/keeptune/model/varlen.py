"""Rows end to end in one, each attending to itself alone: nothing is padded.

PyTorch has flash attention's kernel for that on CUDA, in bfloat16 and half precision. Where it does not run, rows of
like length stand side by side (train/batches.py), and a few of a hundred tokens are padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

TRIED_ROWS = (3, 5)
"""Lengths of the rows that the kernel is tried with."""

NEAR = 0.05
"""How far values of about one, in formats of two bytes, may be from what PyTorch's own attention says of each row."""


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


def has_kernel(model: Any) -> bool:
    """Whether the kernel computes what it should for a model as it stands: tried there and back, for what a build of
    PyTorch and a card can do together is written nowhere."""
    weight, config = next(model.parameters()), model.config
    if weight.device.type != "cuda":
        return False
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, count, sum(TRIED_ROWS), size, generator=draw).to(weight).requires_grad_()
        for count in (heads, groups, groups)
    )
    try:
        found = varlen_attention(query, key, value, Rows.of(TRIED_ROWS, weight.device))
        own = torch.autograd.grad(found.sum(), (query, key, value))
    except (RuntimeError, ValueError, TypeError):
        return False
    expected = torch.cat(
        [
            scaled_dot_product_attention(
                query[:, :, part], key[:, :, part], value[:, :, part], is_causal=True, enable_gqa=True
            )
            for part in Rows.of(TRIED_ROWS, weight.device).parts()
        ],
        dim=2,
    ).transpose(1, 2)
    theirs = torch.autograd.grad(expected.sum(), (query, key, value))
    pairs = zip((found, *own), (expected, *theirs), strict=True)
    return all(torch.allclose(left.float(), right.float(), rtol=NEAR, atol=NEAR) for left, right in pairs)
