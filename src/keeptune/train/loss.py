"""The losses, computed only where they are wanted and never with all logits in memory.

A vocabulary of 49,152 (or 128,256) times every token of a batch is the largest tensor of a training step, and most of
it belongs to prompt tokens that carry no label. So hidden states are picked first, and the output layer is applied
to a few hundred of them at a time; the gradient is formed in the same pass, and no logits outlive their chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_TOKENS = 256


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Per-token negative log-likelihood, with the gradient of its weighted sum prepared on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor) -> Tensor:
        """shapes: hidden (tokens, width); weight (vocabulary, width); labels, token_weights, result (tokens,)."""
        grad_hidden = torch.empty_like(hidden)
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(labels), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            logits = (hidden[part] @ weight.t()).float()
            targets = labels[part, None]
            log_total = torch.logsumexp(logits, dim=-1, keepdim=True)
            losses[part] = (log_total - logits.gather(1, targets)).squeeze(1)
            probabilities = logits.sub_(log_total).exp_()
            probabilities.scatter_add_(1, targets, -torch.ones_like(targets, dtype=torch.float32))
            probabilities.mul_(token_weights[part, None])
            grad_hidden[part] = probabilities.to(hidden.dtype) @ weight
        ctx.save_for_backward(grad_hidden)
        ctx.mark_non_differentiable(losses)
        total = (losses * token_weights).sum()
        ctx.set_materialize_grads(False)
        return total, losses  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad_hidden,) = ctx.saved_tensors
        return (None if gradients[0] is None else grad_hidden * gradients[0].to(grad_hidden.dtype)), None, None, None


def weighted_nll(hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum of token losses (differentiable in `hidden`) and each token's own loss, in nats.

    `weight` is the frozen output layer: it gets no gradient.

    shapes: hidden (tokens, width); weight (vocabulary, width); labels, token_weights (tokens,); results (), (tokens,).
    """
    total, losses = _ChunkedCrossEntropy.apply(hidden, weight, labels, token_weights)  # type: ignore[no-untyped-call]
    return total, losses


class _ChunkedDivergence(torch.autograd.Function):
    """Per-token KL(base ‖ tuned), with the gradient of its weighted sum prepared on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: Tensor, weight: Tensor, token_weight: float) -> Tensor:
        """shapes: hidden, base (tokens, width); weight (vocabulary, width); result (tokens,)."""
        grad_hidden = torch.empty_like(hidden)
        divergences = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            own, reference = ((states[part] @ weight.t()).float().log_softmax(-1) for states in (hidden, base))
            wanted = reference.exp()
            divergences[part] = (wanted * (reference - own)).sum(-1)
            grad_hidden[part] = own.exp_().sub_(wanted).mul_(token_weight).to(hidden.dtype) @ weight
        ctx.save_for_backward(grad_hidden)
        ctx.mark_non_differentiable(divergences)
        ctx.set_materialize_grads(False)
        return divergences.sum() * token_weight, divergences  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad_hidden,) = ctx.saved_tensors
        return (None if gradients[0] is None else grad_hidden * gradients[0].to(grad_hidden.dtype)), None, None, None


def weighted_divergence(hidden: Tensor, base: Tensor, weight: Tensor, token_weight: float) -> tuple[Tensor, Tensor]:
    """The weighted sum of KL(base ‖ tuned) (differentiable in `hidden`) and each token's own, in nats.

    That way round all that the base thinks likely has to stay likely (learning without forgetting, arXiv 1606.09282).

    shapes: hidden, base (tokens, width); weight (vocabulary, width); results (), (tokens,).
    """
    total, divergences = _ChunkedDivergence.apply(hidden, base, weight, token_weight)  # type: ignore[no-untyped-call]
    return total, divergences
