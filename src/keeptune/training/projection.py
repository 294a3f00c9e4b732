"""Projection of an adapter away from the inputs of replayed rows, before training continues from it.

An adapter that was trained on one skill changes the output of every layer on all text. Most of that change is not
needed, because inputs of the skill and of other text differ. Let s be the inputs of a layer on skill rows (adapter
enabled), g those on replayed rows (adapter disabled), S = E[s sᵀ] and G = E[g gᵀ]. The change ΔW' that minimizes

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
from keeptune.models.adapters import causal_model, scaled
from keeptune.models.fused_lora import is_plain_lora
from keeptune.training.batches import TokenizedExample, make_batches
from keeptune.training.forward import hidden_states

TOKENS = 32_768
"""The number of tokens of skill rows, and of replayed rows, that the moments are computed from."""

BATCH_TOKENS = 2_048
"""The maximum of padded tokens per batch."""

MOMENT_BYTES = 2 << 30
"""Memory for the moments of all layers that one pass over the rows covers. Large models take several passes."""

RIDGE = 1e-5
"""Added to the diagonal, relative to its mean, because inputs that never vary make the matrix singular."""


def project(model: Any, examples: Sequence[TokenizedExample], strength: float, seed: int) -> None:
    """Projects the adapter of `model` in place. `examples` holds skill rows and replayed rows.

    Raises:
        ModelError: if the adapter is not plain LoRA, or `examples` lacks skill rows or replayed rows.
    """
    shuffled = random.Random(f"{seed}/projection").sample(examples, len(examples))
    skill_rows, replay_rows = (
        _sample_rows([row.tokens for row in shuffled if row.is_replay == is_replay]) for is_replay in (False, True)
    )
    if not skill_rows or not replay_rows:
        raise ModelError("retain.project_start: needs skill rows and replayed rows; set retain.replay_share")
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    if not all(is_plain_lora(layer) for layer in layers):
        raise ModelError("retain.project_start: the adapter is not plain LoRA; set adapter.family: lora and no dropout")
    projected = {}
    with torch.no_grad():
        for group in _layer_groups(layers):
            skill_moments = _second_moments(model, group, skill_rows, 1.0)
            replay_moments = _second_moments(model, group, replay_rows, 0.0)
            for layer in group:
                projected[layer] = project_down_matrix(
                    _down_matrix(layer), skill_moments[layer], replay_moments[layer], strength
                )
        for layer, down in projected.items():
            _down_matrix(layer).copy_(down)


def project_down_matrix(down: Tensor, skill: Tensor, replay: Tensor, strength: float) -> Tensor:
    """A S (S + strength · G)⁻¹, where A = `down`, S = `skill` and G = `replay`.

    Args:
        down: LoRA's down matrix, of shape `(rank, inputs)`.
        skill: the second moments of inputs on skill rows, of shape `(inputs, inputs)`.
        replay: the second moments of inputs on replayed rows, of shape `(inputs, inputs)`.
        strength: the weight of the replayed rows.

    Returns:
        The projected matrix, of shape `(rank, inputs)`.
    """
    # On the CPU, because not every accelerator has float64.
    skill, replay = skill.cpu().double(), replay.cpu().double()
    both = skill + strength * replay
    both.diagonal().add_(RIDGE * both.diagonal().mean())
    # Both matrices are symmetric, so the inverse can multiply the transposed product from the left.
    solution: Tensor = torch.linalg.solve(both, skill @ down.cpu().double().t())
    return solution.t().to(down)


def _down_matrix(layer: Any) -> Tensor:
    """LoRA's A of a layer, of shape `(rank, inputs)`."""
    down: Tensor = next(iter(layer.lora_A.values())).weight
    return down


def _sample_rows(rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first rows, up to TOKENS tokens."""
    sample, filled = [], 0
    for row in rows:
        if filled >= TOKENS:
            break
        sample.append(row)
        filled += len(row)
    return sample


def _layer_groups(layers: Sequence[Any]) -> list[list[Any]]:
    """The layers in groups whose moments, two per layer, fit in MOMENT_BYTES."""
    groups: list[list[Any]] = [[]]
    used_bytes = 0
    for layer in layers:
        needed_bytes = 2 * 4 * layer.in_features**2
        if groups[-1] and used_bytes + needed_bytes > MOMENT_BYTES:
            groups.append([])
            used_bytes = 0
        groups[-1].append(layer)
        used_bytes += needed_bytes
    return groups


def _second_moments(
    model: Any, layers: Sequence[Any], rows: Sequence[tuple[int, ...]], scale: float
) -> dict[Any, Tensor]:
    """The mean of x xᵀ over the inputs x of each layer, with the adapter at `scale`.

    Each moment has the shape `(inputs, inputs)`.
    """
    sums = {
        layer: torch.zeros(layer.in_features, layer.in_features, device=_down_matrix(layer).device) for layer in layers
    }
    is_token = torch.empty(0, dtype=torch.bool)

    def add(layer: Any, arguments: tuple[Any, ...]) -> None:
        inputs = arguments[0].reshape(-1, layer.in_features)[is_token.to(arguments[0].device)].float()
        sums[layer].addmm_(inputs.t(), inputs)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    lengths = [len(row) for row in rows]
    try:
        with scaled(model, scale):
            for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
                width = max(lengths[index] for index in batch)
                is_token = torch.cat([torch.arange(width) < lengths[index] for index in batch])
                hidden_states(causal_model(model), [rows[index] for index in batch])
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: moment / sum(lengths) for layer, moment in sums.items()}
