"""LoRA linear layers with one hand-written forward and backward pass, in place of PEFT's forward.

PEFT casts every activation to the adapter's float32 and back, and leaves six small products to autograd. Here the
frozen product and the low-rank path share their buffers. The adapter is cast instead, because it is a thousand times
smaller than the activations, and its gradients are in float32. The parameters remain PEFT's, so saving, loading and
disabling the adapter work as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from keeptune.models.invocation import invocation_of
from keeptune.models.pissa import INITIAL, low_rank_matrices
from keeptune.models.quantization import QuantizedLinear, input_gradient, product


class _LoraProduct(torch.autograd.Function):
    """x Wᵀ + bias + scale · (x Aᵀ) Bᵀ. The base layer, W and bias, is frozen and gets no gradient.

    With `active`, the low-rank term is added only at these tokens.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        base: nn.Linear,
        a: Tensor,  # noqa: ARG004  (gets a gradient)
        b: Tensor,  # noqa: ARG004
        casts: tuple[Tensor, Tensor],
        scale: float,
        active: Tensor | None,
    ) -> Tensor:
        """Shapes: x `(..., inputs)`; W `(outputs, inputs)`; a `(rank, inputs)`; b `(outputs, rank)`; active `(...)`.

        `casts` are a and b in the format of x.
        """
        rows = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = casts
        down = rows @ a_cast.t()
        if active is not None:
            down.mul_(active.reshape(-1, 1))
        output = product(base, rows)
        output.addmm_(down, b_cast.t(), alpha=scale)
        ctx.save_for_backward(rows, a_cast, b_cast, down)
        ctx.base, ctx.scale, ctx.shape, ctx.active = base, scale, x.shape, active
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows, a, b, down), base = ctx.saved_tensors, ctx.base
        grad = gradients[0].reshape(-1, b.shape[0])
        grad_down = (grad @ b).mul_(ctx.scale)
        if ctx.active is not None:
            grad_down.mul_(ctx.active.reshape(-1, 1))
        grad_b = (grad.t() @ down).float().mul_(ctx.scale)
        grad_a = (grad_down.t() @ rows).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = input_gradient(base, grad).addmm_(grad_down, a).view(ctx.shape)
        return grad_x, None, grad_a, grad_b, None, None, None


def fuse(model: nn.Module) -> int:
    """Replaces the forward of LoRA layers by the fused product. Returns the number of these layers.

    Layers that the product does not cover (dropout, DoRA, VeRA, (IA)³) keep PEFT's forward.
    """
    fused = 0
    for layer in model.modules():
        if isinstance(layer, LoraLinear) and is_plain_lora(layer):
            layer.forward = _FusedForward(layer)  # type: ignore[method-assign]
            fused += 1
    return fused


def is_plain_lora(layer: Any) -> bool:
    """Whether the layer adds one low-rank product (PiSSA's included) and nothing else."""
    names = list(layer.lora_A)
    return (
        (type(layer.base_layer) is nn.Linear or isinstance(layer.base_layer, QuantizedLinear))
        and names[1:] in ([], [INITIAL])
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
        and not layer.use_dora.get(names[0], False)
        and not layer.lora_bias.get(names[0], False)
        and not layer.fan_in_fan_out
    )


class _FusedForward:
    """The forward of one layer. It runs only the base layer where the adapter is merged, disabled or not invoked."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.name = next(iter(layer.lora_A))
        self.casts: dict[torch.dtype, tuple[Tensor, Tensor]] | None = None
        """A and B by number format, inside of `cached_casts`."""

    def __call__(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        layer, base = self.layer, self.layer.base_layer
        if layer.merged or layer.disable_adapters:
            return base(x)  # type: ignore[no-any-return]
        invocation = invocation_of(layer)
        active = invocation.active if invocation else None
        if invocation and active is None:
            return base(x)  # type: ignore[no-any-return]
        a, b = low_rank_matrices(layer)
        scale = layer.scaling[self.name]
        return _LoraProduct.apply(x, base, a, b, self._cast(a, b, x.dtype), scale, active)  # type: ignore

    def _cast(self, a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A and B in a number format."""
        casts = {} if self.casts is None else self.casts
        if dtype not in casts:
            casts[dtype] = a.detach().to(dtype), b.detach().to(dtype)
        return casts[dtype]


@contextmanager
def cached_casts(model: nn.Module) -> Iterator[None]:
    """Casts A and B of the fused layers once, not in each forward pass. They must not change inside the context."""
    forwards = [layer.__dict__.get("forward") for layer in model.modules()]
    fused = [forward for forward in forwards if isinstance(forward, _FusedForward)]
    before = [forward.casts for forward in fused]
    for forward in fused:
        forward.casts = {}
    try:
        yield
    finally:
        for forward, casts in zip(fused, before, strict=True):
            forward.casts = casts
