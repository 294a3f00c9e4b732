"""The weight of the KL term, adapted so that the divergence from the base stays near a budget."""

from __future__ import annotations

GAIN = 0.1
"""How strongly one step changes the weight, relative to the error."""

MAX_ERROR = 0.2
"""The largest relative error that counts, because the divergence of a single step is noisy."""


def next_weight(weight: float, divergence: float, budget: float) -> float:
    """The weight of the next step: w · (1 + 0.1 · clip(divergence / budget − 1, −0.2, 0.2)).

    This is the controller of Ziegler et al. 2019 (arXiv 1909.08593, section 2.2). The weight changes by at most 2 % in
    a step and stays positive.

    Args:
        weight: the weight of this step.
        divergence: the mean KL(base ‖ tuned) of this step, in nats per token.
        budget: the divergence to hold, in nats per token.
    """
    error = max(-MAX_ERROR, min(MAX_ERROR, divergence / budget - 1))
    return weight * (1 + GAIN * error)
