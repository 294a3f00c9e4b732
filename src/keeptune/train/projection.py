"""Takes an adapter off what other text needs, before training goes on from it.

An adapter that was trained on one skill alone changes every layer's output on all text, mostly for nothing: what the
skill needs lies in few directions of a layer's inputs, and other text lies in others. For each layer there is a closed
form of the nearest adapter that leaves other text alone. With inputs s of the skill's rows (adapter on) and g of the
replayed rows (adapter off), and their second moments S = E[s sᵀ] and G = E[g gᵀ], the change ΔW' that makes

    E‖(ΔW' − ΔW) s‖² + strength · E‖ΔW' g‖²

least is ΔW S (S + strength · G)⁻¹. It is the merge of the tuned layer with its base that RegMean takes for two models
(Jin et al. 2023, arXiv 2212.09849). ΔW = B A stays of the same rank: A becomes A S (S + strength · G)⁻¹.

It knows nothing of how layers act together, so some of the skill goes too; training brings that back in few steps,
where taking the damage back by training alone is slow (results/LOG.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.model.adapter import causal_model, scaled
from keeptune.model.fused import is_plain_lora
from keeptune.score.drift import hidden_states
from keeptune.train import replay
from keeptune.train.batches import Example, batched

TOKENS = 65_536
"""How many tokens of each sort the moments are taken of."""

BATCH_TOKENS = 2_048

MOMENT_BYTES = 2 << 30
"""What the moments of all layers that are gone through together may take; a large model is gone through in parts."""

RIDGE = 1e-5
"""Of the mean diagonal, what is added to it: inputs that never vary have no direction."""


def project(model: Any, examples: Sequence[Example], strength: float, seed: int) -> None:
    """Makes the adapter of `model` change little on the replayed rows of `examples` and the same on all others.

    Raises:
        ModelError: where the adapter is no plain LoRA, or there are no rows of one sort.
    """
    drawn = random.Random(f"{seed}/projection").sample(examples, len(examples))
    sorts = [_first([row.tokens for row in drawn if (row.kind == replay.KIND) == kept]) for kept in (False, True)]
    if not all(sorts):
        raise ModelError("retain.project_start needs rows of the skill and replayed ones; set retain.replay_share")
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    if not all(is_plain_lora(layer) for layer in layers):
        raise ModelError("retain.project_start is for plain LoRA; set adapter.family: lora, without dropout")
    made = {}
    with torch.no_grad():
        for some in _parts(layers):
            skill = _moments(model, some, sorts[0], 1.0)
            kept = _moments(model, some, sorts[1], 0.0)
            for layer in some:
                made[layer] = projected(_down(layer), skill[layer], kept[layer], strength)
        for layer, down in made.items():
            _down(layer).copy_(down)


def projected(down: Tensor, skill: Tensor, kept: Tensor, strength: float) -> Tensor:
    """A S (S + strength · G)⁻¹ of A = `down`, S = `skill` and G = `kept`.

    shapes: down, result (rank, inputs); skill, kept (inputs, inputs).
    """
    both = skill.double() + strength * kept.double()
    both.diagonal().add_(RIDGE * both.diagonal().mean())
    # Both are symmetric, so the inverse may be taken from the left of the transposed product.
    solved: Tensor = torch.linalg.solve(both, skill.double() @ down.double().t())
    return solved.t().to(down.dtype)


def _down(layer: Any) -> Tensor:
    """shape: (rank, inputs)."""
    down: Tensor = next(iter(layer.lora_A.values())).weight
    return down


def _first(rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first rows of TOKENS tokens in all."""
    chosen, filled = [], 0
    for row in rows:
        if filled >= TOKENS:
            break
        chosen.append(row)
        filled += len(row)
    return chosen


def _parts(layers: Sequence[Any]) -> list[list[Any]]:
    """The layers in groups, each of which has room for two moments a layer."""
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


def _moments(model: Any, layers: Sequence[Any], rows: Sequence[tuple[int, ...]], scale: float) -> dict[Any, Tensor]:
    """The mean of x xᵀ over all tokens x that enter each layer while the adapter counts `scale` times.

    shape, of each: (inputs, inputs).
    """
    sums = {layer: torch.zeros(layer.in_features, layer.in_features, device=_down(layer).device) for layer in layers}
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
