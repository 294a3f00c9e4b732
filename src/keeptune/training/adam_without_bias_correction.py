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
                update = m / v.sqrt().add_(group["eps"])
                if group["weight_decay"]:
                    update.add_(parameter, alpha=group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])
