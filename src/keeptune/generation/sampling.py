"""Choice of the next token: the most likely one, or a sample at a temperature from the nucleus.

Each row draws one number per token from its seed and its length so far. So an answer depends on its prompt and its
seed, and not on the rows beside it, up to floating-point ties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUCLEUS_CANDIDATES = 1_024
"""Tokens that are sorted first to find a nucleus. Only for a larger nucleus the whole vocabulary is sorted."""

MIN_TEMPERATURE = 1e-6
"""Smaller temperatures are raised to this one, which already gives the most likely token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are chosen.

    Attributes:
        temperature: divides the logits; 0 chooses the most likely token.
        top_p: the nucleus is the smallest set of most likely tokens with at least this probability
            (Holtzman et al. 2020, arXiv 1904.09751).
        seed: the seed of the draws.
        top_logprobs: the number of alternatives to report per token; None reports no log probabilities.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token. `logprob` and `top` (token, log probability) are those of the model at temperature 1."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def choose_tokens(logits: Tensor, samplings: Sequence[Sampling], lengths: Sequence[int]) -> list[Choice]:
    """The next token of each row.

    Args:
        logits: of shape (rows, vocabulary).
        samplings: one per row.
        lengths: the number of tokens that each row has generated so far.
    """
    tokens: list[int] = logits.max(-1).indices.tolist()
    sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if sampled:
        draws = [uniform(samplings[row].seed, lengths[row]) for row in sampled]
        parts = [samplings[row] for row in sampled]
        for row, token in zip(sampled, _sample(logits[sampled].float(), parts, draws), strict=True):
            tokens[row] = token
    reported = [row for row, sampling in enumerate(samplings) if sampling.top_logprobs is not None]
    choices = [Choice(token) for token in tokens]
    if reported:
        counts = [samplings[row].top_logprobs or 0 for row in reported]
        chosen = [tokens[row] for row in reported]
        for row, choice in zip(reported, _with_logprobs(logits[reported].float(), chosen, counts), strict=True):
            choices[row] = choice
    return choices


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on nothing but a seed and an index."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # 53 bits fit a double exactly


def _sample(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> list[int]:
    """One sampled token per row. Shape: logits (rows, vocabulary)."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    temperatures = column([max(sampling.temperature, MIN_TEMPERATURE) for sampling in samplings]).float()
    # The largest logit becomes 0 before the division, so that no quotient overflows to plus infinity.
    probabilities = ((logits - logits.amax(-1, keepdim=True)) / temperatures).softmax(-1)
    top_p, uniforms = column([sampling.top_p for sampling in samplings]), column(draws)
    tokens = torch.empty(len(samplings), dtype=torch.long, device=logits.device)
    whole = top_p[:, 0] >= 1
    if whole.any():
        tokens[whole] = _invert(probabilities[whole].double(), uniforms[whole])
    if not whole.all():
        part = ~whole
        tokens[part] = _from_nucleus(probabilities[part], top_p[part], uniforms[part], NUCLEUS_CANDIDATES)
    return [int(token) for token in tokens.tolist()]


def _from_nucleus(probabilities: Tensor, top_p: Tensor, uniforms: Tensor, candidates: int) -> Tensor:
    """One token per row from its nucleus. Shapes: (rows, vocabulary), (rows, 1), (rows, 1)."""
    vocabulary = probabilities.shape[-1]
    sorted_probabilities, order = probabilities.topk(min(candidates, vocabulary))
    sums = sorted_probabilities.double().cumsum(-1)
    is_larger = (sums[:, -1] < top_p[:, 0]) & (candidates < vocabulary)
    is_inside = (sums - sorted_probabilities) < top_p
    is_inside[:, 0] = True
    places = _invert(sorted_probabilities.double() * is_inside, uniforms)
    tokens = order.gather(1, places[:, None])[:, 0]
    if is_larger.any():
        tokens[is_larger] = _from_nucleus(probabilities[is_larger], top_p[is_larger], uniforms[is_larger], vocabulary)
    return tokens


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first place of each row at which the cumulative share of the weights exceeds the row's uniform number."""
    sums = weights.cumsum(-1)
    return (sums <= uniforms * sums[:, -1:]).sum(-1).clamp(max=weights.shape[-1] - 1)


def _with_logprobs(logits: Tensor, tokens: Sequence[int], counts: Sequence[int]) -> list[Choice]:
    """The chosen tokens with their log probabilities, and with those of each row's most likely tokens."""
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, ids = (part.tolist() for part in logprobs.topk(min(max(counts), logits.shape[-1])))
    return [
        Choice(token, logprob, tuple(zip(row_ids[:count], row_values[:count], strict=True)))
        for token, logprob, row_ids, row_values, count in zip(tokens, chosen, ids, values, counts, strict=True)
    ]
