"""Packed rows: several rows end to end in one sequence, each attending only to itself, without padding.

PyTorch has a flash-attention kernel for this on CUDA, in bfloat16 and half precision. Elsewhere, rows of similar length
share a padded batch (training/batches.py), in which a few percent of the tokens are padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from keeptune.models.transfer import to_device


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The boundaries of packed rows.

    Attributes:
        starts: the offset of each row and, at last, the end of the sequence, of shape `(rows + 1,)`.
        lengths: the tokens per row.
    """

    starts: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Self:
        """The boundaries of rows of these lengths."""
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(to_device(starts, device), tuple(lengths))

    def places(self, width: int) -> Tensor:
        """Where each token stands in rows that are padded to `width` tokens, and its position in its row.

        Returns:
            A tensor of the processor, of shape `(2, tokens)`.
        """
        positions = torch.cat([torch.arange(length) for length in self.lengths])
        rows = torch.arange(len(self.lengths)).repeat_interleave(torch.tensor(self.lengths))
        return torch.stack([rows * width + positions, positions])

    def slices(self) -> list[slice]:
        """The tokens of each row."""
        return [slice(start, end) for start, end in pairwise((0, *accumulate(self.lengths)))]


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, scaling: float | None = None
) -> Tensor:
    """Causal attention within each packed row, by PyTorch's kernel.

    Args:
        query: of shape `(1, heads, tokens, head_size)`.
        key, value: of shape `(1, groups, tokens, head_size)`.
        rows: the boundaries of the rows.
        scaling: the factor of the scores; by default 1/√head_size.

    Returns:
        A tensor of shape `(1, tokens, heads, head_size)`.
    """
    longest = max(rows.lengths)
    output = varlen_attn(
        _flatten(query),
        _flatten(key),
        _flatten(value),
        rows.starts,
        rows.starts,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=True,
    )
    assert isinstance(output, Tensor)  # With other arguments, the kernel returns a pair.
    return output[None]


def _flatten(states: Tensor) -> Tensor:
    """From `(1, heads, tokens, head_size)` to `(tokens, heads, head_size)`."""
    # Not states[0], whose backward pass fills a tensor with zeros and copies the gradient into it.
    return states.squeeze(0).transpose(0, 1)
