"""A forward pass of the decoder alone, without the output layer and its logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from keeptune.training.padding import pad_rows


def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """The last hidden states of token rows, padded on the right.

    Returns:
        A tensor of shape `(rows, tokens, width)`.
    """
    ids = pad_rows(rows, model.get_output_embeddings().weight.device)
    states: Tensor = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    return states
