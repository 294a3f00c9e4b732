"""Padding of token rows of different lengths to one rectangular tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PADDING_TOKEN = 0
"""The id at padded positions. Any id would do, because no position reads it: padding is on the right of each row."""


def pad_rows(rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Pads token rows on the right to the length of the longest row.

    Causal attention never looks to the right, so right padding needs no attention mask.

    Returns:
        The token ids, of shape `(rows, tokens)`, on `device` (the CPU by default).
    """
    width = max(map(len, rows))
    padded = [[*row, *[PADDING_TOKEN] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)
