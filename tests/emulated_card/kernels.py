"""The kernels of attention that only CUDA has, for the emulated card: one launch each, computed in float32.

PyTorch chooses a kernel by rules (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp). `flash` takes no mask, and
`efficient` no grouped heads. Both need states whose last axis is contiguous. What suits neither runs as `math`: many
launches, with copies of keys and values in float32.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from emulated_card.card import Card
from torch import Tensor
from torch.nn.attention import varlen

SHORT = (torch.bfloat16, torch.float16)
FORWARD_OPTIONS = ("longest_query", "longest_key", "is_causal", "scale", "window_size", "enable_gqa", "seqused_k")
BACKWARD_OPTIONS = ("longest_query", "longest_key", "is_causal", "random_state", "scale", "window_size")

plain: Any = torch.nn.functional.scaled_dot_product_attention


def install(card: Card) -> None:
    """Gives the device its kernels."""
    _install_fused(card)
    _install_varlen(card)


def _install_fused(card: Card) -> None:
    """The kernels of scaled_dot_product_attention."""

    class Fused(torch.autograd.Function):
        """One launch forward and one backward."""

        @staticmethod
        def forward(ctx: Any, name: str, options: dict[str, Any], mask: Tensor | None, *states: Tensor) -> Tensor:
            ctx.name, ctx.options, ctx.mask = name, options, mask
            ctx.save_for_backward(*states)
            with card.paused():
                output: Tensor = plain(*(x.float() for x in states), attn_mask=_float(mask), **options)
                output = output.to(states[0].dtype)
            card.ran_attention(name)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
            with card.paused(), torch.enable_grad():
                leaves = [x.detach().float().requires_grad_() for x in ctx.saved_tensors]
                output = plain(*leaves, attn_mask=_float(ctx.mask), **ctx.options)
                results = torch.autograd.grad(output, leaves, gradients[0].float())
                results = tuple(result.to(gradients[0].dtype) for result in results)
            card.ran_attention(f"{ctx.name} backward")
            return None, None, None, *results

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        states = (query, key, value)
        if not query.is_cuda:
            return plain(*states, attn_mask=attn_mask, **options)  # type: ignore[no-any-return]
        is_laid_out = all(x.stride(-1) == 1 for x in (*states, *([] if attn_mask is None else [attn_mask])))
        is_short = query.dtype in SHORT and query.shape[-1] == value.shape[-1] <= 256
        if is_laid_out and is_short and attn_mask is None:
            return Fused.apply("flash", options, attn_mask, *states)  # type: ignore
        if is_laid_out and not options.get("enable_gqa"):
            return Fused.apply("efficient", options, attn_mask, *states)  # type: ignore
        card.ran_attention("math")
        return plain(*states, attn_mask=attn_mask, **options)  # type: ignore[no-any-return]

    torch.nn.functional.scaled_dot_product_attention = attention


def _install_varlen(card: Card) -> None:
    """The kernels for packed rows."""

    @varlen._varlen_attn.register_kernel("cuda")
    def forward(
        query: Tensor, key: Tensor, value: Tensor, starts: Tensor, key_starts: Tensor, *others: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        options = dict(zip(FORWARD_OPTIONS, others, strict=False))
        if query.dtype not in SHORT:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if any(x.stride(-1) != 1 or x.shape[-1] % 8 for x in (query, key, value)):
            raise RuntimeError("the last axis must be contiguous, and its size a multiple of 8")
        if not options["is_causal"] or options.get("seqused_k") is not None:
            raise NotImplementedError("keeptune does not use this")
        with card.paused():
            output = _by_rows((query, key, value), starts, key_starts, options["scale"]).to(query.dtype)
            sums = query.new_zeros(query.shape[1], query.shape[0], dtype=torch.float32)
            random_state = torch.zeros(2, dtype=torch.uint64, device=query.device)
        card.ran_attention("varlen")
        return output, sums, random_state

    @varlen._varlen_attn_backward.register_kernel("cuda")
    def backward(
        gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor, *others: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        starts, key_starts, *more = others
        options = dict(zip(BACKWARD_OPTIONS, more, strict=False))
        assert output.shape == gradient.shape and sums.shape == query.shape[1::-1]
        with card.paused():
            bounds = _bounds(starts, key_starts)
            rows = [[x[a:b] for x in (gradient, query, key, value)] for a, b in pairwise(bounds)]
            parts = zip(*(_row_gradients(*row, options.get("scale")) for row in rows), strict=True)
            dq, dk, dv = (torch.cat(part).to(query.dtype) for part in parts)
        card.ran_attention("varlen backward")
        return dq, dk, dv


def _float(mask: Tensor | None) -> Tensor | None:
    return mask if mask is None or mask.dtype == torch.bool else mask.float()


def _by_rows(states: Any, starts: Tensor, key_starts: Tensor, scale: float | None) -> Tensor:
    """Causal attention of each packed row over itself, in float32, of shape `(tokens, heads, head_size)`."""
    outputs = []
    for start, end in pairwise(_bounds(starts, key_starts)):
        row = [x[None, start:end].transpose(1, 2).float() for x in states]
        outputs.append(plain(*row, is_causal=True, scale=scale, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(outputs)


def _bounds(starts: Tensor, key_starts: Tensor) -> list[int]:
    """The boundaries of packed rows, which are those of their keys."""
    bounds: list[int] = starts.cpu().tolist()
    assert bounds == key_starts.cpu().tolist()
    return bounds


def _row_gradients(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value of one row. All have the shape `(tokens, heads or groups, head_size)`.

    By the formulas of flash attention (arXiv 2205.14135, appendix B), because autograd is off inside of a kernel.
    """
    tokens, heads, size = query.shape
    shared = heads // key.shape[1]
    factor = size**-0.5 if scale is None else scale
    q, grad = (x.transpose(0, 1).float() for x in (query, gradient))
    k, v = (x.transpose(0, 1).float().repeat_interleave(shared, dim=0) for x in (key, value))
    hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    weights = ((q @ k.mT) * factor).masked_fill(hidden, float("-inf")).softmax(-1)
    weight_gradients = grad @ v.mT
    scores = weights * (weight_gradients - (weight_gradients * weights).sum(-1, keepdim=True)) * factor
    dk, dv = (x.unflatten(0, (-1, shared)).sum(1).transpose(0, 1) for x in (scores.mT @ q, weights.mT @ grad))
    return (scores @ k).transpose(0, 1), dk, dv
