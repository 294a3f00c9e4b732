"""The output layer of a causal model: from hidden states to logits.

In most models, logits are the product of hidden states and output weights. Granite and Cohere multiply the product by a
constant, and Gemma 2 limits it with a hyperbolic tangent. Loss, divergence and likelihood need the same logits as the
model itself, which the self-test of a loaded model checks (generation/self_test.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """What a model does with the product of hidden states and output weights: cap · tanh(scale · product / cap).

    Attributes:
        scale: the factor of the product.
        cap: the limit of the logits; None for none, so that they are scale · product.
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> Self:
        """The transform that a model's configuration names (Cohere, Granite, Gemma 2)."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def apply(self, product: Tensor) -> Tensor:
        """The logits, computed in place."""
        if self.scale != 1:
            product.mul_(self.scale)
        return product if self.cap is None else product.div_(self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor) -> Tensor | float:
        """The derivative of the logits with respect to the product: a tensor like `logits`, or a constant."""
        return self.scale if self.cap is None else (logits / self.cap).square_().sub_(1).mul_(-self.scale)


IDENTITY = LogitTransform()
"""Logits that are the product itself."""


@dataclass(frozen=True, slots=True)
class OutputLayer:
    """The output layer and the transform of its product.

    Attributes:
        linear: the model's own layer, with weights of shape `(vocabulary, width)`.
        transform: what follows it.
    """

    linear: nn.Linear
    transform: LogitTransform

    @property
    def weight(self) -> Tensor:
        """The weights, of shape `(vocabulary, width)`."""
        return self.linear.weight

    def __call__(self, states: Tensor) -> Tensor:
        """The logits of hidden states, from `(…, width)` to `(…, vocabulary)`."""
        return self.transform.apply(self.linear(states))


def output_layer(model: Any) -> OutputLayer:
    """The output layer of a causal model, with or without an adapter."""
    return OutputLayer(model.get_output_embeddings(), LogitTransform.of(model.config))
