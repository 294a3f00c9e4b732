"""Model families: which kinds of layers keeptune can train and cache, read from a model's configuration.

Layers must be attention over all previous tokens or over a sliding window of them. Recurrent layers (Mamba, short
convolutions, linear attention) carry a state from token to token, which rows in one sequence would share and which the
key-value cache cannot hold.
"""

from __future__ import annotations

from typing import Any

from torch import nn

FULL, SLIDING = "full_attention", "sliding_attention"
"""transformers' names of the two supported kinds of layers (`layer_types` in config.json)."""

_UNSUPPORTED_KEYS = {
    "attention_chunk_size": "attention in chunks",
    "window_size": "attention over windows that its own code defines",
}
"""Keys of config.json that change which tokens a layer sees, in a way that keeptune does not compute."""

_BATCH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Kinds of rotary embedding that change for the whole batch once its longest row exceeds the original context."""


def layer_kinds(config: Any) -> set[str]:
    """The kinds of layers that a configuration names; empty if it names none, and all layers are alike."""
    return set(getattr(config, "layer_types", None) or ())


def require_supported_layers(config: Any) -> None:
    """Raises ValueError if the configuration names layers that keeptune cannot train or cache."""
    if unknown := layer_kinds(config) - {FULL, SLIDING}:
        raise ValueError(
            f"keeptune does not support layers of type {', '.join(sorted(unknown))}, only {FULL} and {SLIDING}"
        )
    for key, meaning in _UNSUPPORTED_KEYS.items():
        if getattr(config, key, None):
            raise ValueError(f"keeptune does not support {meaning} ({key} in config.json)")


def stable_rope_tokens(config: Any) -> int | None:
    """The most tokens of a row for which the model's own rotary embedding is the held one (`hold_rope`), if limited."""
    rope = getattr(config, "rope_parameters", None) or {}
    parameters = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    limits = [
        part.get("original_max_position_embeddings") or config.max_position_embeddings
        for part in parameters
        if part.get("rope_type") in _BATCH_DEPENDENT_ROPE
    ]
    return min(limits, default=None)


def hold_rope(model: nn.Module) -> None:
    """Holds rotary embeddings of the kinds `dynamic` and `longrope` as they are for short rows.

    They would rescale the positions of a whole batch as soon as one of its rows exceeds the original context. The
    result of a row would then depend on the rows beside it.
    """
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if isinstance(kind, dict):
            module.rope_type = {layers: _held(name) for layers, name in kind.items()}  # type: ignore[assignment]
        elif isinstance(kind, str):
            module.rope_type = _held(kind)  # type: ignore[assignment]


def _held(kind: str) -> str:
    return "default" if kind in _BATCH_DEPENDENT_ROPE else kind
