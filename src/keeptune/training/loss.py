"""Cross-entropy and KL divergence in chunks of tokens, so that the logits of a batch are never all in memory.

A vocabulary has 49,152 (or 128,256) words, so the logits of a whole batch would be the largest tensor of a training
step. Most of them belong to prompt tokens without a label. So the caller selects the hidden states of labeled tokens,
and the output layer is applied to a few hundred of them at a time. The gradient is computed in the same pass, so no
logits outlive their chunk. The memory depends neither on the batch nor on the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keeptune.models.device_memory import is_card
from keeptune.models.output_layer import IDENTITY, LogitTransform
from keeptune.training.token_weights import WeightFunction, low_perplexity

CHUNK_TOKENS = 256
"""The most tokens per chunk. Vocabularies of more than 49,152 words have smaller chunks."""

CHUNK_VALUES = CHUNK_TOKENS * 49_152
"""The most logits per chunk: 50 MB in float32."""


CARD_CHUNK_VALUES = 1 << 28
"""The most logits per chunk of the training loss on a card: 1 GiB in float32, 2,093 tokens of Llama 3. Each
chunk reads the output weights twice, so smaller chunks would be bound by memory bandwidth."""


TRAINED_LOGIT_BYTES = 8
"""Bytes per logit in training: once in float32 and twice in the model's format."""


def logit_chunks(tokens: int, vocabulary: int, device: torch.device | None = None) -> list[slice]:
    """Divides a number of tokens into slices whose logits fit in memory together; larger ones on a card."""
    is_large = device is not None and is_card(device)
    size = max(1, CARD_CHUNK_VALUES // vocabulary if is_large else min(CHUNK_TOKENS, CHUNK_VALUES // vocabulary))
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient with respect to `hidden` was computed along with it."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, total: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(gradient)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming[0].to(gradient.dtype), None, None


def weighted_nll(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    token_weights: Tensor,
    weigh: WeightFunction | None = None,
    transform: LogitTransform = IDENTITY,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of token losses, differentiable in `hidden`, and the loss of each token, in nats.

    Args:
        hidden: hidden states, of shape `(tokens, width)`.
        weight: the frozen output layer, of shape `(vocabulary, width)`; it gets no gradient.
        labels: target tokens, of shape `(tokens,)`.
        token_weights: the weight of each token in the sum, of shape `(tokens,)`.
        weigh: computes factors of these weights from the logits; they are constants in the gradient.
        transform: from the product of hidden states and weights to logits.

    Returns:
        A scalar, and a tensor of shape `(tokens,)`.
    """
    losses, gradient = _empty_results(hidden)
    token_weights = token_weights.clone() if weigh else token_weights
    with torch.no_grad():
        chunks = logit_chunks(len(hidden), len(weight), hidden.device)
        longest = max((chunk.stop - chunk.start for chunk in chunks), default=0)
        buffer = torch.empty(longest, len(weight), dtype=torch.float32, device=hidden.device)
        for chunk in chunks:
            targets, weights = labels[chunk, None], token_weights[chunk, None]
            logits = transform.apply(buffer[: len(targets)].copy_(hidden[chunk] @ weight.t()))
            slope = transform.slope(logits)
            if weigh:
                weights.mul_(weigh(logits, labels[chunk])[:, None])
            target_logits, largest = logits.gather(1, targets), logits.amax(dim=-1, keepdim=True)
            # In place from here on: a second tensor over the vocabulary would take as long as the product.
            exponentials = logits.sub_(largest).exp_()
            total = exponentials.sum(dim=-1, keepdim=True)
            losses[chunk] = (total.log() + largest - target_logits).squeeze(1)
            exponentials.mul_(weights / total).scatter_add_(1, targets, -weights)
            if transform != IDENTITY:
                exponentials.mul_(slope)
            gradient[chunk] = exponentials.to(hidden.dtype) @ weight
    return _with_gradient(hidden, (losses * token_weights).sum(), gradient), losses


def improbable_labels(base: Tensor, weight: Tensor, labels: Tensor, transform: LogitTransform = IDENTITY) -> Tensor:
    """Whether the base finds each label too improbable to train on (selective token masking).

    Args:
        base: hidden states of the base, of shape `(tokens, width)`.
        weight: the output layer, of shape `(vocabulary, width)`.
        labels: target tokens, of shape `(tokens,)`.
        transform: from the product of hidden states and weights to logits.

    Returns:
        A boolean tensor of shape `(tokens,)`.
    """
    chunks = logit_chunks(len(base), len(weight))
    parts = [low_perplexity(transform.apply(base[chunk] @ weight.t()), labels[chunk]) == 0 for chunk in chunks]
    return torch.cat(parts) if parts else labels.new_empty(0, dtype=torch.bool)


def weighted_kl(
    hidden: Tensor,
    base: Tensor,
    weight: Tensor,
    token_weight: float,
    excluded_tokens: Tensor | None = None,
    transform: LogitTransform = IDENTITY,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of KL(base ‖ tuned), differentiable in `hidden`, and the divergence at each token, in nats.

    In this direction, all that the base finds likely must stay likely (learning without forgetting, arXiv 1606.09282).

    Args:
        hidden: hidden states of the tuned model, of shape `(tokens, width)`.
        base: hidden states of the base, of shape `(tokens, width)`.
        weight: the frozen output layer, of shape `(vocabulary, width)`.
        token_weight: the weight of every token in the sum.
        excluded_tokens: one token per position, of shape `(tokens,)`, that is left out of both distributions. The
            rest is renormalized (Mask the Target, arXiv 2605.29498).
        transform: from the product of hidden states and weights to logits.

    Returns:
        A scalar, and a tensor of shape `(tokens,)`.
    """
    divergences, gradient = _empty_results(hidden)
    with torch.no_grad():
        for chunk in logit_chunks(len(hidden), len(weight), hidden.device):
            excluded = None if excluded_tokens is None else excluded_tokens[chunk, None]
            (tuned_log, slope), (base_log, _) = (
                _log_probabilities(states[chunk], weight, excluded, transform) for states in (hidden, base)
            )
            difference = base_log - tuned_log
            base_probabilities = base_log.exp_()
            divergences[chunk] = difference.mul_(base_probabilities).sum(-1)
            error = tuned_log.exp_().sub_(base_probabilities).mul_(token_weight)
            gradient[chunk] = (error if transform == IDENTITY else error.mul_(slope)).to(hidden.dtype) @ weight
    return _with_gradient(hidden, divergences.sum() * token_weight, gradient), divergences


def _log_probabilities(
    states: Tensor, weight: Tensor, excluded: Tensor | None, transform: LogitTransform
) -> tuple[Tensor, Tensor | float]:
    """Log-probabilities over the vocabulary, of shape `(tokens, vocabulary)`, and the slope of the transform.

    `excluded` holds one token per position, of shape `(tokens, 1)`, whose probability becomes 0.
    """
    logits = transform.apply((states @ weight.t()).float())
    slope = transform.slope(logits)
    if excluded is not None:
        # A finite number, because the difference of two infinities is NaN. Its exponential is 0, too.
        logits.scatter_(1, excluded, torch.finfo(torch.float32).min / 4)
    return logits.log_softmax(-1), slope


def _empty_results(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialized tensors for a value per token, `(tokens,)`, and for the gradient, `(tokens, width)`."""
    return torch.empty(len(hidden), dtype=torch.float32, device=hidden.device), torch.empty_like(hidden)


def _with_gradient(hidden: Tensor, total: Tensor, gradient: Tensor) -> Tensor:
    result: Tensor = _WithGradient.apply(hidden, total, gradient)  # type: ignore[no-untyped-call]
    return result
