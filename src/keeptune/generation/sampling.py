"""Choice of the next token: the most likely one, or a sample at a temperature from the nucleus.

Each row draws one number per token from its seed and its length so far. So an answer depends on its prompt and its
seed, and not on the rows beside it, up to floating-point ties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from keeptune.models.transfer import to_device

NUCLEUS_CANDIDATES = 1_024
"""Tokens that are sorted first to find a nucleus. Only for a larger nucleus the whole vocabulary is sorted."""

_Sample = Callable[[Tensor, Tensor, Tensor], Tensor]

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
    tokens: list[int] = _tokens(logits, samplings, lengths).tolist()
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


def _tokens(logits: Tensor, samplings: Sequence[Sampling], lengths: Sequence[int]) -> Tensor:
    """The next token of each row, on the device of the logits; without a nucleus, nothing waits for the device."""
    tokens = logits.max(-1).indices
    sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    for sample in (_from_all, _from_nucleus):
        rows = [row for row in sampled if (samplings[row].top_p >= 1) == (sample is _from_all)]
        if rows:
            draws = [uniform(samplings[row].seed, lengths[row]) for row in rows]
            index = to_device(torch.tensor(rows), logits.device)
            tokens[index] = _sample(logits[index].float(), [samplings[row] for row in rows], draws, sample)
    return tokens


def _sample(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float], sample: _Sample) -> Tensor:
    """One sampled token per row. Shape: logits (rows, vocabulary)."""
    temperatures = [max(sampling.temperature, MIN_TEMPERATURE) for sampling in samplings]
    numbers = torch.tensor(
        [temperatures, [sampling.top_p for sampling in samplings], draws], dtype=_precision(logits.device)
    )
    temperature, top_p, uniforms = to_device(numbers, logits.device)[:, :, None]
    # The largest logit becomes 0 before the division, so that no quotient overflows to plus infinity.
    probabilities = ((logits - logits.amax(-1, keepdim=True)) / temperature.float()).softmax(-1)
    return sample(probabilities, top_p, uniforms)


def _from_all(probabilities: Tensor, _: Tensor, uniforms: Tensor) -> Tensor:
    """One token per row from the whole vocabulary. Shapes as in `_from_nucleus`."""
    return _invert(probabilities.to(_precision(probabilities.device)), uniforms)


def _from_nucleus(probabilities: Tensor, top_p: Tensor, uniforms: Tensor, candidates: int | None = None) -> Tensor:
    """One token per row from its nucleus, which is sought among `candidates` tokens first.

    Shapes: probabilities (rows, vocabulary), top_p and uniforms (rows, 1).
    """
    vocabulary = probabilities.shape[-1]
    candidates = NUCLEUS_CANDIDATES if candidates is None else candidates
    sorted_probabilities, order = probabilities.topk(min(candidates, vocabulary))
    sorted_probabilities = sorted_probabilities.to(_precision(sorted_probabilities.device))
    sums = sorted_probabilities.cumsum(-1)
    is_larger = (sums[:, -1] < top_p[:, 0]) & (candidates < vocabulary)
    is_inside = (sums - sorted_probabilities) < top_p
    is_inside[:, 0] = True
    places = _invert(sorted_probabilities * is_inside, uniforms)
    tokens = order.gather(1, places[:, None])[:, 0]
    if is_larger.any():
        tokens[is_larger] = _from_nucleus(probabilities[is_larger], top_p[is_larger], uniforms[is_larger], vocabulary)
    return tokens


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first place of each row at which the cumulative share of the weights exceeds the row's uniform number."""
    sums = weights.cumsum(-1)
    return (sums <= uniforms * sums[:, -1:]).sum(-1).clamp(max=weights.shape[-1] - 1)


def _precision(device: torch.device) -> torch.dtype:
    """The number format of cumulative sums over the vocabulary. Apple's GPU has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _with_logprobs(logits: Tensor, tokens: Sequence[int], counts: Sequence[int]) -> list[Choice]:
    """The chosen tokens with their log probabilities, and with those of each row's most likely tokens."""
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, ids = (part.tolist() for part in logprobs.topk(min(max(counts), logits.shape[-1])))
    return [
        Choice(token, logprob, tuple(zip(row_ids[:count], row_values[:count], strict=True)))
        for token, logprob, row_ids, row_values, count in zip(tokens, chosen, ids, values, counts, strict=True)
    ]
