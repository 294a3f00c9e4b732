"""Attention masks of forward passes over cached rows, for full attention and for sliding windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keeptune.models.families import FULL, SLIDING, layer_kinds


def cached_attention_masks(config: Any, positions: Tensor, keys: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """The mask that a decoder adds to the scores of new tokens over the first `keys` tokens of each cached row.

    A decoder whose layers all see the same tokens takes one mask. A decoder with layers of several kinds takes one mask
    per kind, as `generate` of transformers passes them.

    Args:
        config: the decoder's configuration.
        positions: the position of each new token in its row, of shape `(rows, tokens)`.
        keys: the number of cached tokens per row, the new ones included.
        dtype: the number format of the scores.

    Returns:
        Zeros where a token sees a key and minus infinity elsewhere, of shape `(rows, 1, tokens, keys)`.
    """
    places = torch.arange(keys, device=positions.device)
    visible = places <= positions[:, :, None]
    window, kinds = getattr(config, "sliding_window", None), layer_kinds(config)
    if not window or kinds == {FULL}:
        return _added(visible, dtype)
    in_window = _added(visible & (places > positions[:, :, None] - window), dtype)
    return {FULL: _added(visible, dtype), SLIDING: in_window} if kinds else in_window


def _added(visible: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, float("-inf"))[:, None]
