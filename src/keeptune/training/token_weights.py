"""Token weighting: methods that reduce the loss of tokens that contradict what the base model is sure of.

Supervised training moves a model most where the target contradicts it. Each method weights the loss of a token by a
measure of that contradiction. The weights are constants: no gradient flows through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from keeptune.config.retain import TokenWeighting

WeightFunction = Callable[[Tensor, Tensor], Tensor]
"""Computes token weights of shape `(tokens,)` from logits `(tokens, vocabulary)` and labels `(tokens,)`."""

EAFT_TOP_K = 20
"""The number of most likely tokens in the entropy of EAFT (K in its paper)."""

STM_PERPLEXITY = 2.5
"""The perplexity above which selective token masking skips a token (the threshold of its paper)."""


def weight_function(method: TokenWeighting) -> WeightFunction | None:
    """The function for methods that weight by the model's own predictions; None for all other methods."""
    return {"dft": dft, "eaft": eaft}.get(method)


def dft(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability p of the label: the loss −log p becomes −p·log p.

    Dynamic fine-tuning (arXiv 2508.05629, eq. 9).
    """
    return logits.float().log_softmax(-1).gather(1, labels[:, None]).squeeze(1).exp()


def eaft(logits: Tensor, _: Tensor) -> Tensor:
    """The entropy of the 20 most likely tokens, divided by its maximum, ln 20: low where the model is sure.

    Entropy-adaptive fine-tuning (arXiv 2601.02151).
    """
    top_k = min(EAFT_TOP_K, logits.shape[-1])
    log_probabilities = logits.float().topk(top_k, dim=-1).values.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1) / math.log(top_k)


def low_perplexity(base_logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the base's perplexity of the label is at most 2.5, else 0: unlikely tokens are skipped.

    Selective token masking (arXiv 2501.14315).
    """
    losses = functional.cross_entropy(base_logits.float(), labels, reduction="none")
    return (losses <= math.log(STM_PERPLEXITY)).to(torch.float32)
