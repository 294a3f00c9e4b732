"""A lower learning rate for the ranks that come from `adapter.start`, so that new ranks do most of the learning.

A trained adapter has large matrices, so each step on them also moves what the base does on other text. New ranks begin
at B = 0 and carry the correction instead (results/LOG.md, 2026-11-30).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def slow_start_ranks(optimizer: torch.optim.Optimizer, model: Any, ranks: int, ratio: float) -> None:
    """Multiplies each update of the first `ranks` ranks of all LoRA layers by `ratio`.

    The update of AdamW is proportional to its learning rate, so this is a separate learning rate for these ranks. The
    hooks have no state, so a resumed training continues exactly.

    Args:
        optimizer: updates the adapter of `model`.
        model: has A matrices of shape `(rank, inputs)` and B matrices of shape `(outputs, rank)`.
        ranks: the number of ranks that come from the start adapter.
        ratio: between 0 and 1.
    """
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    parts = [part for layer in layers for part in _start_parts(layer, ranks)]
    before: list[Tensor] = []

    def remember(*_: Any) -> None:
        before[:] = [part.detach().clone() for part in parts]

    @torch.no_grad()
    def shorten(*_: Any) -> None:
        for part, old in zip(parts, before, strict=True):
            part.copy_(torch.lerp(old, part, ratio))

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(shorten)


def _start_parts(layer: Any, ranks: int) -> list[Tensor]:
    """Views of the first ranks of A and B."""
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return [down.data[:ranks], up.data[:, :ranks]]
