"""The losses, computed only where they are wanted and never with all logits in memory.

A vocabulary of 49,152 (or 128,256) times every token of a batch is the largest tensor of a training step, and most of
it belongs to prompt tokens that carry no label. So hidden states are picked first, and the output layer is applied
to a few hundred of them at a time, fewer the larger the vocabulary is; the gradient is formed in the same pass, and no
logits outlive their chunk. So the memory for it depends on neither the batch nor the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keeptune.training.token_weights import Weigh, low_perplexity

CHUNK_TOKENS = 256
"""Of a vocabulary of 49,152 words or fewer."""

CHUNK_VALUES = CHUNK_TOKENS * 49_152
"""Logits at a time: 50 MB in float32."""


def chunks(tokens: int, vocabulary: int) -> list[slice]:
    """So many tokens in parts whose logits may be in memory at a time."""
    at_once = max(1, min(CHUNK_TOKENS, CHUNK_VALUES // vocabulary))
    return [slice(start, min(start + at_once, tokens)) for start in range(0, tokens, at_once)]


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient in `hidden` was formed while it was computed."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, total: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(gradient)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming[0].to(gradient.dtype), None, None


def weighted_nll(
    hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor, weigh: Weigh | None = None
) -> tuple[Tensor, Tensor]:
    """The weighted sum of token losses (differentiable in `hidden`) and each token's own loss, in nats.

    `weight` is the frozen output layer: it gets no gradient. `weigh` gives further weights, which are constants.

    shapes: hidden (tokens, width); weight (vocabulary, width); labels, token_weights (tokens,); results (), (tokens,).
    """
    losses, gradient = _like(hidden)
    token_weights = token_weights.clone() if weigh else token_weights
    with torch.no_grad():
        parts = chunks(len(hidden), len(weight))
        longest = max((part.stop - part.start for part in parts), default=0)
        room = torch.empty(longest, len(weight), dtype=torch.float32, device=hidden.device)
        for part in parts:
            targets, weights = labels[part, None], token_weights[part, None]
            logits = room[: len(targets)].copy_(hidden[part] @ weight.t())
            if weigh:
                weights.mul_(weigh(logits, labels[part])[:, None])
            own, largest = logits.gather(1, targets), logits.amax(dim=-1, keepdim=True)
            # From here on in place: a second array of all words would take as long as the product.
            shares = logits.sub_(largest).exp_()
            total = shares.sum(dim=-1, keepdim=True)
            losses[part] = (total.log() + largest - own).squeeze(1)
            shares.mul_(weights / total).scatter_add_(1, targets, -weights)
            gradient[part] = shares.to(hidden.dtype) @ weight
    return _with_gradient(hidden, (losses * token_weights).sum(), gradient), losses


def unlikely_to(base: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Which labels the base finds too unlikely to be learnt. shapes: base (tokens, width); labels, result (tokens,)."""
    found = [low_perplexity(base[part] @ weight.t(), labels[part]) == 0 for part in chunks(len(base), len(weight))]
    return torch.cat(found) if found else labels.new_empty(0, dtype=torch.bool)


def weighted_divergence(
    hidden: Tensor, base: Tensor, weight: Tensor, token_weight: float, left_out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The weighted sum of KL(base ‖ tuned) (differentiable in `hidden`) and each token's own, in nats.

    That way round all that the base thinks likely has to stay likely (learning without forgetting, arXiv 1606.09282).
    Where a token of each is `left_out`, the divergence is of what the distributions say of all other words, each
    renormalised (Mask the Target, arXiv 2605.29498).

    shapes: hidden, base (tokens, width); weight (vocabulary, width); left_out (tokens,); results (), (tokens,).
    """
    divergences, gradient = _like(hidden)
    with torch.no_grad():
        for part in chunks(len(hidden), len(weight)):
            masked = None if left_out is None else left_out[part, None]
            own, reference = (_log_probabilities(states[part], weight, masked) for states in (hidden, base))
            further = reference - own
            wanted = reference.exp_()
            divergences[part] = further.mul_(wanted).sum(-1)
            gradient[part] = own.exp_().sub_(wanted).mul_(token_weight).to(hidden.dtype) @ weight
    return _with_gradient(hidden, divergences.sum() * token_weight, gradient), divergences


def _log_probabilities(states: Tensor, weight: Tensor, left_out: Tensor | None) -> Tensor:
    """shapes: states (tokens, width); weight (vocabulary, width); left_out (tokens, 1); result (tokens, vocabulary)."""
    logits = (states @ weight.t()).float()
    if left_out is not None:
        # Not −∞: the difference of two would not be a number. The exponential of this is 0, too.
        logits.scatter_(1, left_out, torch.finfo(torch.float32).min / 4)
    return logits.log_softmax(-1)


def _like(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a value of each token, and for the gradient. shapes: (tokens,), (tokens, width)."""
    return torch.empty(len(hidden), dtype=torch.float32, device=hidden.device), torch.empty_like(hidden)


def _with_gradient(hidden: Tensor, total: Tensor, gradient: Tensor) -> Tensor:
    joined: Tensor = _WithGradient.apply(hidden, total, gradient)  # type: ignore[no-untyped-call]
    return joined
