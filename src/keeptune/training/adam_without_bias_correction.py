"""Adam as MindFormers runs it: its two means start at zero, and nothing corrects them for it.

MindFormers calls it FP32StateAdamWeightDecay, MindSpore nn.AdamWeightDecay. With betas of 0.9 and 0.95 the first step
goes 0.45 of the rate instead of the whole, the tenth about 1.0, so torch's AdamW under the same settings is another
training. The state is float32, and weight decay is taken off the weights, not added to the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class UncorrectedAdam(torch.optim.Optimizer):
    """w ← w - rate·(m / (√v + epsilon) + decay·w), where m and v are the running means of g and g²."""

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002  (torch's signature)
        """One step along the gradients that the parameters hold; those without one stay as they are."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient, state = parameter.grad.float(), self.state[parameter]
                if not state:
                    state["m"] = torch.zeros_like(parameter, dtype=torch.float32)
                    state["v"] = torch.zeros_like(parameter, dtype=torch.float32)
                m, v = state["m"], state["v"]
                m.lerp_(gradient, 1 - beta1)
                v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                change = m / v.sqrt().add_(group["eps"])
                if group["weight_decay"]:
                    change.add_(parameter, alpha=group["weight_decay"])
                parameter.add_(change, alpha=-group["lr"])
