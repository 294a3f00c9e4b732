"""Causal attention for the rows that keeptune trains and asks on.

Most rows are 50–400 tokens long. On that length PyTorch's own CPU attention spends more time in its backward pass
than the matrix products it replaces (a quarter of a training step of SmolLM2-135M), so the scores are formed
directly, one product per group of heads that shares its keys. Longer rows do so part by part, and very long ones
(a row of 5,000 tokens would keep 13 GB of scores over the layers of SmolLM2-135M) once more on the way back. On an
accelerator PyTorch's kernels are better.

Rows can stand end to end as well (model/varlen.py): on CUDA by a kernel, on a processor one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from keeptune.models.activation_checkpointing import head_size
from keeptune.models.packed_rows import Rows, varlen_attention

SHORT_ATTENTION = "keeptune_short"
CUDA_ATTENTION = "keeptune_cuda"

PART_TOKENS = 256
"""Queries of a row that attend at once: over all keys before them half of the products are for nothing. There and back
in 7.4 ms a layer with 640 tokens, where one part takes 9.3; in 16.7 with 1,024, where it takes 22.5."""

LONGEST_KEPT_TOKENS = 1024
"""Longer rows compute their scores again on the way back, for they grow with the square: 3,072 tokens in 144 ms a
layer, where PyTorch's own kernel, which keeps none either, takes 223."""

TRIED_ROWS = (3, 5)
"""Lengths of the rows that the kernel for rows end to end is tried with."""

NEAR = 0.05
"""How far values of about one, in formats of two bytes, may be from what each row alone comes to."""


def implementation(device: torch.device) -> str:
    """The name of the attention to load a model with on `device`."""
    if device.type not in ("cpu", "cuda"):
        return "sdpa"
    if device.type == "cpu":
        AttentionInterface.register(SHORT_ATTENTION, short_attention)
        AttentionMaskInterface.register(SHORT_ATTENTION, short_mask)
        return SHORT_ATTENTION
    AttentionInterface.register(CUDA_ATTENTION, cuda_attention)
    AttentionMaskInterface.register(CUDA_ATTENTION, sdpa_mask)
    return CUDA_ATTENTION


def cuda_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    rows_end_to_end: Rows | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """PyTorch's attention, or its kernel for rows that stand end to end. shapes: as in short_attention."""
    if rows_end_to_end is not None:
        return varlen_attention(query, key, value, rows_end_to_end, scaling), None
    mixed, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    return mixed, None


def short_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    rows_end_to_end: Rows | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of queries over keys, in the layout that transformers expects back.

    Without a mask it is causal with the last query at the last key: rows are padded on the right, so no real
    token ever sees padding and no mask is needed. Rows end to end attend to themselves alone.

    shapes: query (rows, heads, queries, head_size); key, value (rows, groups, keys, head_size);
    attention_mask (rows, 1, queries, keys), added to the scores; result (rows, queries, heads, head_size).
    """
    if dropout:
        raise NotImplementedError("attention dropout is not part of keeptune's engine")
    if rows_end_to_end is not None:
        alone = (
            short_attention(module, query[:, :, part], key[:, :, part], value[:, :, part], None, scaling)[0]
            for part in rows_end_to_end.parts()
        )
        return torch.cat(list(alone), dim=1), None
    rows, heads, queries, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    shared = heads // groups
    if attention_mask is None and queries == keys > PART_TOKENS:
        return _in_parts(module, query, key, value, scaling), None
    scale = size**-0.5 if scaling is None else scaling
    grouped = (query * scale).reshape(rows * groups, shared * queries, size)
    keys_flat = key.reshape(rows * groups, keys, size)
    scores = torch.bmm(grouped, keys_flat.transpose(1, 2)).view(rows, heads, queries, keys)
    if attention_mask is None:
        attention_mask = causal_mask(queries, keys, scores)
    weights = torch.softmax(scores + attention_mask, dim=-1)
    mixed = torch.bmm(weights.view(rows * groups, shared * queries, keys), value.reshape(rows * groups, keys, size))
    return mixed.view(rows, heads, queries, size).transpose(1, 2).contiguous(), None


def short_mask(*sizes: Any, dtype: torch.dtype = torch.float32, **others: Any) -> Tensor | None:
    """What short_attention adds to the scores where a row is padded on the left, as others than keeptune ask, or sees
    a window only; None where attention is causal and nothing else. shape: (rows, 1, queries, keys)."""
    allowed = sdpa_mask(*sizes, **others)
    if allowed is None:
        return None
    # Half of the least number: a padded query sees nothing, and its scores are not to become infinite.
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min / 2)


def _in_parts(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Causal attention, queries part by part, each over the keys up to its end. shapes: as short_attention."""

    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return short_attention(module, query, key, value, None, scaling)[0]

    tokens, parts = query.shape[2], []
    for start in range(0, tokens, PART_TOKENS):
        stop = start + PART_TOKENS
        states = query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop]
        if tokens > LONGEST_KEPT_TOKENS:
            parts.append(checkpoint(attended, *states, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(attended(*states))
    return torch.cat(parts, dim=1)


def has_kernel(model: Any) -> bool:
    """Whether the kernel for rows end to end computes what it should for a model as it stands: tried there and back,
    for what a build of PyTorch and a card can do together is written nowhere. It knows of no sliding window."""
    weight, config = next(model.parameters()), model.config
    if weight.device.type != "cuda" or getattr(config, "sliding_window", None):
        return False
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = head_size(config)
    draw, rows = torch.Generator().manual_seed(0), Rows.of(TRIED_ROWS, weight.device)
    query, key, value = (
        torch.randn(1, count, sum(TRIED_ROWS), size, generator=draw).to(weight).requires_grad_()
        for count in (heads, groups, groups)
    )
    try:
        found = varlen_attention(query, key, value, rows)
        own = torch.autograd.grad(found.sum(), (query, key, value))
    except (RuntimeError, ValueError, TypeError):
        return False
    expected, _ = short_attention(nn.Identity(), query, key, value, None, rows_end_to_end=rows)
    theirs = torch.autograd.grad(expected.sum(), (query, key, value))
    pairs = zip((found, *own), (expected, *theirs), strict=True)
    return all(torch.allclose(left.float(), right.float(), rtol=NEAR, atol=NEAR) for left, right in pairs)


def causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """Zeros where a query may look and minus infinity elsewhere. shape: (queries, keys)."""
    hidden = torch.full((queries, keys), float("-inf"), dtype=like.dtype, device=like.device)
    return hidden.triu(keys - queries + 1)
