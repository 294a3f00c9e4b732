"""Projects an adapter away from the inputs of replayed rows, before training continues from it.

An adapter that was trained on one skill changes the output of every layer on all text. Most of that change is not
needed: inputs of the skill and of other text differ. Let s be the inputs of a layer on skill rows (adapter on), g those
on replayed rows (adapter off), S = E[s sᵀ] and G = E[g gᵀ]. The change ΔW' that minimises

    E‖(ΔW' − ΔW) s‖² + strength · E‖ΔW' g‖²

is ΔW S (S + strength · G)⁻¹. RegMean merges two models in the same way (Jin et al. 2023, arXiv 2212.09849, eq. 2); here
the second model is the base. The rank of ΔW = B A stays the same: A becomes A S (S + strength · G)⁻¹.

Each layer is solved alone, so a part of the skill is lost, too. Training restores the skill in few steps; restoring the
other abilities by training alone is slow (results/LOG.md, 2026-11-30).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.models.adapter import causal_model, scaled
from keeptune.models.fused_lora import is_plain_lora
from keeptune.training import replay
from keeptune.training.batches import Example, batched
from keeptune.training.forward import hidden_states

TOKENS = 32_768
"""Tokens of skill rows, and of replayed rows, that the moments are computed from."""

BATCH_TOKENS = 2_048

MOMENT_BYTES = 2 << 30
"""Memory for the moments of all layers that one pass over the rows covers. Large models take several passes."""

RIDGE = 1e-5
"""Added to the diagonal, relative to its mean, because inputs that never vary make the matrix singular."""


def project(model: Any, examples: Sequence[Example], strength: float, seed: int) -> None:
    """Projects the adapter of `model` in place. `examples` holds skill rows and replayed rows.

    Raises:
        ModelError: if the adapter is no plain LoRA, or `examples` lacks skill rows or replayed rows.
    """
    shuffled = random.Random(f"{seed}/projection").sample(examples, len(examples))
    sorts = [
        _sample_rows([row.tokens for row in shuffled if (row.kind == replay.KIND) == kept]) for kept in (False, True)
    ]
    if not all(sorts):
        raise ModelError("retain.project_start needs rows of the skill and replayed ones; set retain.replay_share")
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    if not all(is_plain_lora(layer) for layer in layers):
        raise ModelError("retain.project_start is for plain LoRA; set adapter.family: lora, without dropout")
    made = {}
    with torch.no_grad():
        for some in _layer_groups(layers):
            skill = _second_moments(model, some, sorts[0], 1.0)
            kept = _second_moments(model, some, sorts[1], 0.0)
            for layer in some:
                made[layer] = project_down_matrix(_down_matrix(layer), skill[layer], kept[layer], strength)
        for layer, down in made.items():
            _down_matrix(layer).copy_(down)


def project_down_matrix(down: Tensor, skill: Tensor, kept: Tensor, strength: float) -> Tensor:
    """A S (S + strength · G)⁻¹ of A = `down`, S = `skill` and G = `kept`.

    shapes: down, result (rank, inputs); skill, kept (inputs, inputs).
    """
    # On the processor, because not every accelerator has float64.
    skill, kept = skill.cpu().double(), kept.cpu().double()
    both = skill + strength * kept
    both.diagonal().add_(RIDGE * both.diagonal().mean())
    # Both are symmetric, so the inverse may be taken from the left of the transposed product.
    solved: Tensor = torch.linalg.solve(both, skill @ down.cpu().double().t())
    return solved.t().to(down)


def _down_matrix(layer: Any) -> Tensor:
    """shape: (rank, inputs)."""
    down: Tensor = next(iter(layer.lora_A.values())).weight
    return down


def _sample_rows(rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first rows, up to TOKENS tokens."""
    chosen, filled = [], 0
    for row in rows:
        if filled >= TOKENS:
            break
        chosen.append(row)
        filled += len(row)
    return chosen


def _layer_groups(layers: Sequence[Any]) -> list[list[Any]]:
    """The layers in groups whose moments, two per layer, fit in MOMENT_BYTES."""
    parts: list[list[Any]] = [[]]
    taken = 0
    for layer in layers:
        needed = 2 * 4 * layer.in_features**2
        if parts[-1] and taken + needed > MOMENT_BYTES:
            parts.append([])
            taken = 0
        parts[-1].append(layer)
        taken += needed
    return parts


def _second_moments(
    model: Any, layers: Sequence[Any], rows: Sequence[tuple[int, ...]], scale: float
) -> dict[Any, Tensor]:
    """The mean of x xᵀ over the inputs x of each layer, with the adapter at `scale`.

    shape, per layer: (inputs, inputs).
    """
    sums = {
        layer: torch.zeros(layer.in_features, layer.in_features, device=_down_matrix(layer).device) for layer in layers
    }
    own = torch.empty(0, dtype=torch.bool)

    def add(layer: Any, inputs: tuple[Any, ...]) -> None:
        entering = inputs[0].reshape(-1, layer.in_features)[own.to(inputs[0].device)].float()
        sums[layer].addmm_(entering.t(), entering)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    lengths = [len(row) for row in rows]
    try:
        with scaled(model, scale):
            for batch in batched(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
                width = max(lengths[index] for index in batch)
                own = torch.cat([torch.arange(width) < lengths[index] for index in batch])
                hidden_states(causal_model(model), [rows[index] for index in batch])
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: moment / sum(lengths) for layer, moment in sums.items()}
