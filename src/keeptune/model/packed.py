"""Frozen linear layers with weights laid out for oneDNN, for as long as a model only answers.

A plain product lays the weight out anew at every call, and in float32 PyTorch calls MKL, which runs at a third of
oneDNN's speed on an AMD processor. While many answers are written nothing is trained, so the layout is made once:
64 rows by 49,152 words in float32 take 10 ms instead of 36. It costs a second copy of the weights in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.helpers import DoraCaching
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora.dora import DoraLinearLayer
from torch import Tensor, nn

from keeptune.model.fused import is_plain_lora
from keeptune.model.pissa import low_rank

TYPICAL_ROWS = 64
"""How many rows the layout is chosen for; others are computed alike, a little slower."""


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While it lasts, the model's linear layers, with or without LoRA, compute from packed weights.

    The weights must not change meanwhile, and no gradient flows. Switching the adapter off works as before. On an
    accelerator, or where oneDNN lacks the number format, nothing changes.
    """
    replaced: list[tuple[nn.Module, Any]] = []
    for layer, forward in _packed_forwards(model):
        replaced.append((layer, layer.__dict__.get("forward")))
        layer.forward = forward
    try:
        with _dora_norms_kept(model):
            yield
    finally:
        for layer, previous in replaced:
            del layer.forward
            if previous is not None:
                layer.forward = previous


@contextmanager
def _dora_norms_kept(model: nn.Module) -> Iterator[None]:
    """DoRA's products BA and norms of whole weights are computed once, and not for every token: 0.11 s for a token of
    32 answers of SmolLM2-135M on one core, instead of 0.45."""
    layers = [module for module in model.modules() if isinstance(module, DoraLinearLayer)]
    try:
        with DoraCaching():
            yield
    finally:
        for layer in layers:
            # The weights may change from here on. PEFT forgets what it kept when training begins.
            was_training = layer.training
            layer.train().train(was_training)


def _packed_forwards(model: nn.Module) -> Iterator[tuple[nn.Module, _PackedLinear | _PackedLora]]:
    inside: set[nn.Module] = set()
    for layer in model.modules():
        if isinstance(layer, LoraLinear) and is_plain_lora(layer) and _supported(layer.base_layer.weight):
            yield layer, _PackedLora(layer)
            inside.update(layer.modules())
        elif type(layer) is nn.Linear and layer not in inside and _supported(layer.weight):
            yield layer, _PackedLinear(layer.weight, layer.bias)


def _supported(weight: Any) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


class _PackedLinear:
    """x Wᵀ + bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), TYPICAL_ROWS)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """other + x Wᵀ, summed before it is rounded."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return total


class _PackedLora:
    """x Wᵀ + bias + (x Aᵀ)(scale · B)ᵀ; the base alone where the adapter is merged or off."""

    def __init__(self, layer: Any) -> None:
        self.layer, base = layer, layer.base_layer
        a, b = low_rank(layer)
        scale = layer.scaling[next(iter(layer.lora_A))]
        self.base = _PackedLinear(base.weight, base.bias)
        self.down = _PackedLinear(a.to(base.weight.dtype))
        self.up = _PackedLinear((b * scale).to(base.weight.dtype))

    def __call__(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        out = self.base(x)
        if self.layer.merged or self.layer.disable_adapters:
            return out
        return self.up.added_to(out, self.down(x))
