"""AdamW without bias correction, as MindFormers and MindSpore run it.

MindFormers calls it FP32StateAdamWeightDecay, MindSpore nn.AdamWeightDecay. Both running means start at zero, and
nothing corrects for it. With betas of 0.9 and 0.95, the first update is 0.45 times the learning rate instead of 1.0.
The tenth is about 1.0. So torch's AdamW with the same settings trains differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class AdamWithoutBiasCorrection(torch.optim.Optimizer):
    """w ← w − lr · (m / (√v + eps) + weight_decay · w), where m and v are the running means of g and g².

    Weight decay is decoupled: it applies to the weights and is not added to the gradient. The state is float32.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002  (torch's signature)
        """Updates every parameter that has a gradient; the others stay unchanged."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            beta1, beta2 = group["betas"]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("m", "v")
                    }
            gradients = [parameter.grad.float() for parameter in parameters]
            m, v = ([self.state[parameter][name] for parameter in parameters] for name in ("m", "v"))
            # An accelerator updates the tensors of a list together.
            torch._foreach_lerp_(m, gradients, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, gradients, gradients, value=1 - beta2)
            divisors = torch._foreach_sqrt(v)
            torch._foreach_add_(divisors, group["eps"])
            updates = torch._foreach_div(m, divisors)
            if group["weight_decay"]:
                torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
