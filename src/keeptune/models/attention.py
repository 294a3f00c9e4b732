"""Causal attention for the row lengths of training and evaluation.

Most rows have 50–400 tokens. At that length, the backward pass of PyTorch's CPU attention takes longer than the matrix
products it replaces (a quarter of a training step of SmolLM2-135M). So on a CPU the scores are computed directly, with
one product per group of heads that shares its keys. Longer rows are computed in blocks of queries. Very long rows
compute their scores again in the backward pass: a row of 5,000 tokens would store 13 GB of scores over the layers of
SmolLM2-135M. On an accelerator, PyTorch's kernels are better.

Rows can also be packed (models/packed_rows.py): CUDA has a kernel for that, a CPU computes them one by one.

Some models pass further arguments to the attention, such as attention sinks. An argument that keeptune does not know is
an error, because attention without it would train another model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from keeptune.errors import ModelError
from keeptune.models.packed_rows import PackedRows, varlen_attention

SHORT_ATTENTION = "keeptune_short"
CUDA_ATTENTION = "keeptune_cuda"

QUERY_BLOCK_TOKENS = 256
"""Queries per block. Blocks avoid the half of the products that the causal mask would discard. Forward and backward
pass take 7.4 ms per layer with 640 tokens (9.3 ms without blocks), and 16.7 ms with 1,024 tokens (22.5 ms)."""

MAX_STORED_SCORE_TOKENS = 1024
"""Longer rows compute their scores again in the backward pass, because scores grow with the square of the length. With
3,072 tokens that takes 144 ms per layer; PyTorch's kernel, which does not store them either, takes 223 ms."""

PROBE_LENGTHS = (3, 5)
"""The lengths of the packed rows that test the kernel."""

PROBE_TOLERANCE = 0.05
"""The tolerance of that test for values of about one in two-byte formats."""


_IGNORED_ARGUMENTS = frozenset(
    "sliding_window position_ids cache_position token_type_ids logits_to_keep num_items_in_batch "
    "cu_seq_lens_q cu_seq_lens_k max_length_q max_length_k".split()
)
"""Arguments that models pass to the attention and that do not change its result. The mask has the sliding window."""


def head_size(config: Any) -> int:
    """The width of one attention head."""
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def key_value_heads(config: Any) -> int:
    """The number of heads that keys and values have in a layer; configurations without grouped heads do not name it."""
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads


def register_attention(device: torch.device) -> str:
    """Registers the attention for `device` with transformers, and returns its name for `attn_implementation`."""
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
    packed_rows: PackedRows | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """PyTorch's attention, or its kernel for packed rows. Arguments and result are those of `short_attention`.

    PyTorch's kernels cannot cap scores, so `short_attention` computes models that do (Gemma 2).
    """
    _require_known(options)
    if softcap is not None:
        mask = attention_mask
        if mask is not None and mask.dtype == torch.bool:
            mask = _additive(mask, query.dtype)
        return short_attention(module, query, key, value, mask, scaling, dropout, packed_rows, softcap)
    if packed_rows is not None:
        return varlen_attention(query, key, value, packed_rows, scaling), None
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
    return output, None


def short_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_rows: PackedRows | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of queries over keys.

    Without a mask, attention is causal, with the last query at the last key. Rows are padded on the right, so no token
    sees padding and no mask is needed.

    Args:
        module: unused; part of transformers' interface.
        query: of shape `(rows, heads, queries, head_size)`.
        key, value: of shape `(rows, groups, keys, head_size)`; values may have another size.
        attention_mask: added to the scores, of shape `(rows, 1, queries, keys)`.
        scaling: the factor of the scores; by default 1/√head_size.
        dropout: must be 0.
        packed_rows: the boundaries of packed rows, each of which attends only to itself.
        softcap: limits the scores to softcap · tanh(scores / softcap), before the mask.
        options: further arguments of the model.

    Returns:
        A tensor of shape `(rows, queries, heads, head_size)`, and no attention weights.

    Raises:
        ModelError: if `options` has an argument that may change the result.
    """
    _require_known(options)
    if dropout:
        raise NotImplementedError("keeptune does not implement attention dropout")
    if packed_rows is not None:
        parts = [(query[:, :, part], key[:, :, part], value[:, :, part]) for part in packed_rows.slices()]
        outputs = [short_attention(module, *part, None, scaling, softcap=softcap)[0] for part in parts]
        return torch.cat(outputs, dim=1), None
    rows, heads, queries, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    heads_per_group = heads // groups
    if attention_mask is None and queries == keys > QUERY_BLOCK_TOKENS:
        return _attention_in_blocks(module, query, key, value, scaling, softcap), None
    scale = size**-0.5 if scaling is None else scaling
    grouped = (query * scale).reshape(rows * groups, heads_per_group * queries, size)
    flat_keys = key.reshape(rows * groups, keys, size)
    scores = torch.bmm(grouped, flat_keys.transpose(1, 2)).view(rows, heads, queries, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is None:
        attention_mask = causal_mask(queries, keys, scores)
    weights = torch.softmax(scores + attention_mask, dim=-1)
    flat_values = value.reshape(rows * groups, keys, -1)
    output = torch.bmm(weights.view(rows * groups, heads_per_group * queries, keys), flat_values)
    return output.view(rows, heads, queries, -1).transpose(1, 2).contiguous(), None


def short_mask(*sizes: Any, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor | None:
    """The mask that `short_attention` adds to the scores; None where attention is only causal.

    keeptune itself needs none. Other callers pad rows on the left, and some models use a sliding window.

    Returns:
        A tensor of shape `(rows, 1, queries, keys)`, or None.
    """
    is_visible = sdpa_mask(*sizes, **options)
    if is_visible is None:
        return None
    return _additive(is_visible, dtype)


def _additive(is_visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask that is added to scores, like `is_visible`, which is true where a query sees a key."""
    # Half of the lowest number: a padded query sees no key, and its scores must not become infinite.
    mask = torch.zeros(is_visible.shape, dtype=dtype, device=is_visible.device)
    return mask.masked_fill_(~is_visible, torch.finfo(dtype).min / 2)


def _require_known(options: dict[str, Any]) -> None:
    """Raises ModelError if the model passes an argument that keeptune's attention does not compute."""
    # Booleans only choose what is returned besides the result, such as the weights.
    passed = [name for name, value in options.items() if value is not None and not isinstance(value, bool)]
    unknown = [name for name in passed if name not in _IGNORED_ARGUMENTS]
    if unknown:
        raise ModelError(f"its attention has {', '.join(sorted(unknown))}, which keeptune does not compute")


def _attention_in_blocks(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, softcap: float | None
) -> Tensor:
    """Causal attention in blocks of queries, each over the keys up to its end. Shapes as in `short_attention`."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return short_attention(module, query, key, value, None, scaling, softcap=softcap)[0]

    tokens, outputs = query.shape[2], []
    for start in range(0, tokens, QUERY_BLOCK_TOKENS):
        stop = start + QUERY_BLOCK_TOKENS
        block = query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop]
        if tokens > MAX_STORED_SCORE_TOKENS:
            outputs.append(checkpoint(attend, *block, use_reentrant=False, preserve_rng_state=False))
        else:
            outputs.append(attend(*block))
    return torch.cat(outputs, dim=1)


def supports_packed_rows(model: Any) -> bool:
    """Whether the kernel for packed rows computes correct attention for this model.

    A forward and a backward pass test it, because no documentation lists which builds of PyTorch and which GPUs support
    it. The kernel supports neither sliding windows nor capped scores. Whether the model passes the boundaries of rows
    on to its attention is tested with the whole model (training/packing.py).
    """
    weight, config = next(model.parameters()), model.config
    limits = ("sliding_window", "attn_logit_softcapping")
    if weight.device.type != "cuda" or any(getattr(config, key, None) for key in limits):
        return False
    heads, groups, size = config.num_attention_heads, key_value_heads(config), head_size(config)
    generator, rows = torch.Generator().manual_seed(0), PackedRows.of(PROBE_LENGTHS, weight.device)
    query, key, value = (
        torch.randn(1, count, sum(PROBE_LENGTHS), size, generator=generator).to(weight).requires_grad_()
        for count in (heads, groups, groups)
    )
    try:
        output = varlen_attention(query, key, value, rows)
        gradients = torch.autograd.grad(output.sum(), (query, key, value))
    except (RuntimeError, ValueError, TypeError):
        return False
    expected, _ = short_attention(nn.Identity(), query, key, value, None, packed_rows=rows)
    expected_gradients = torch.autograd.grad(expected.sum(), (query, key, value))
    pairs = zip((output, *gradients), (expected, *expected_gradients), strict=True)
    return all(
        torch.allclose(actual.float(), reference.float(), rtol=PROBE_TOLERANCE, atol=PROBE_TOLERANCE)
        for actual, reference in pairs
    )


def causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """Zeros where a query sees a key and minus infinity elsewhere, of shape `(queries, keys)`."""
    mask = torch.full((queries, keys), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu(keys - queries + 1)
