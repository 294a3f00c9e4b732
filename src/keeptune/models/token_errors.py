"""Comparison of two computations of the same model, token by token, for the self-tests of a loaded model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keeptune.errors import KeeptuneError

MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError, KeeptuneError)
"""What a model raises that does not fit: wrong shapes, missing arguments, layers that ask the cache for their state."""

TOLERANCES = {torch.float32: 0.01, torch.bfloat16: 0.2, torch.float16: 0.2}
"""The largest relative error of the median token. Rounding causes about 1e-5 in float32 and 0.02 in the two-byte
formats; a token that attends to wrong tokens differs by 0.3 and more."""


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The relative error ‖actual − expected‖ / ‖expected‖ of the median token.

    The median, because a router of experts may choose another expert for a token when rounding differs. Shapes:
    `(tokens, width)`.
    """
    # On the processor, because Apple's devices have no float64.
    exact, other = expected.cpu().double(), actual.cpu().double()
    return float(((other - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-9)).median())


def is_same(actual: Tensor, expected: Tensor) -> bool:
    """Whether both are the same apart from rounding. True if the expected values are not all finite numbers.

    A model with broken weights computes no numbers in any way; its training reports the loss that is not finite.
    """
    if not bool(expected.isfinite().all()):
        return True
    return relative_error(actual, expected) <= TOLERANCES.get(expected.dtype, 0.2)


def probe_tokens(model: Any, length: int) -> Tensor:
    """Tokens for a self-test, spread over the vocabulary, of shape `(length,)`."""
    weight = model.get_input_embeddings().weight
    tokens = [(7 + 31 * place * (place + length)) % len(weight) for place in range(length)]
    return torch.tensor(tokens, device=weight.device)
