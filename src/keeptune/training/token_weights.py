"""What each token of a solution counts in the loss: methods that leave alone what the base is sure of.

Supervised training moves the model most where it contradicts it. Each method here weighs a token's loss by something
that says how much of a contradiction it is. The weights are constants: no gradient flows through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from keeptune.config.retain import TokenWeighting

Weigh = Callable[[Tensor, Tensor], Tensor]
"""The weights of tokens, from the model's logits before them and the tokens themselves.

shapes: logits (tokens, vocabulary); labels (tokens,); result (tokens,)."""

EAFT_WORDS = 20
"""The likeliest words that EAFT takes the entropy over: its paper's K."""

STM_PERPLEXITY = 2.5
"""The perplexity above which a token is not learnt: the threshold of the low-perplexity paper."""


def weigher(method: TokenWeighting) -> Weigh | None:
    """The weights by the model's own predictions; None for the methods that need none."""
    return {"dft": dft, "eaft": eaft}.get(method)


def dft(logits: Tensor, labels: Tensor) -> Tensor:
    """The token's own probability p: −p·log p in place of −log p (dynamic fine-tuning, arXiv 2508.05629, eq. 9)."""
    return logits.float().log_softmax(-1).gather(1, labels[:, None]).squeeze(1).exp()


def eaft(logits: Tensor, _: Tensor) -> Tensor:
    """The entropy of the likeliest 20 words over its maximum, ln 20: a sure model is not contradicted (entropy-adaptive
    fine-tuning, arXiv 2601.02151)."""
    words = min(EAFT_WORDS, logits.shape[-1])
    likeliest = logits.float().topk(words, dim=-1).values.log_softmax(-1)
    return -(likeliest.exp() * likeliest).sum(-1) / math.log(words)


def low_perplexity(base_logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the base's perplexity of the token is at most 2.5, else 0: what the base finds unlikely is not learnt
    (selective token masking, arXiv 2501.14315)."""
    losses = functional.cross_entropy(base_logits.float(), labels, reduction="none")
    return (losses <= math.log(STM_PERPLEXITY)).to(torch.float32)
