"""A forward pass over token rows, without gradients bookkeeping or logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """The last hidden states, padded on the right, which causal attention never sees.

    shape: (rows, tokens, width).
    """
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *(width - len(row)) * [0]] for row in rows])
    ids = ids.to(model.get_output_embeddings().weight.device)
    states: Tensor = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    return states
