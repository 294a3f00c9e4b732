"""Frozen linear layers with weights laid out for oneDNN.

A plain product lays the weight out anew at every call, and in float32 PyTorch calls MKL, which runs at a third of
oneDNN's speed on an AMD processor. While many answers are written nothing is trained, so the layout is made once:
64 rows by 49,152 words in float32 take 10 ms instead of 36. It costs a second copy of the weights in memory.

In training only the adapter changes, so there too the frozen layers under LoRA are laid out once, for the way there and
for the way back: a tenth faster in bfloat16, for two more copies of these layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.helpers import DoraCaching
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora.dora import DoraLinearLayer
from torch import Tensor, nn

from keeptune.models.fused_lora import is_plain_lora
from keeptune.models.invocation import invocation_of
from keeptune.models.pissa import low_rank

TYPICAL_ROWS = 64
"""How many rows the layout is chosen for; others are computed alike, a little slower."""

TRAINING_ROWS = 512

LAYOUTS = 2
"""Of a layer in training: there and back."""

SPARE_SHARE = 0.25
"""Of the memory, what the layouts of training may take; where they need more there are none. Of all memory, and not of
what is free at the time: products with and without a layout round differently, and a training that goes on has to
come to the same bytes."""


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While it lasts, the model's linear layers, with or without LoRA, compute from packed weights.

    The weights must not change meanwhile, and no gradient flows. Switching the adapter off works as before. On an
    accelerator, or where oneDNN lacks the number format, nothing changes; nor within another such block.
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
        if isinstance(layer.__dict__.get("forward"), (_PackedLinear, _PackedLora)):
            inside.update(layer.modules())
        elif isinstance(layer, LoraLinear) and is_plain_lora(layer) and _supported(layer.base_layer.weight):
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


def lay_out(model: nn.Module, memory_bytes: int) -> None:
    """Lays the frozen layers under LoRA out for training, if a part of the memory is enough for that."""
    layers = [layer for layer in to_lay_out(model) if _supported(layer.weight)]
    if layers and layout_bytes(layers, layers[0].weight.itemsize, memory_bytes):
        for layer in layers:
            layer.__dict__["laid_out"] = LaidOut(layer)  # beside its weights, so that it is never saved


def drop_layouts(model: nn.Module) -> None:
    """Gives their memory back, so that all that comes after training computes as it does in a process of its own."""
    for layer in model.modules():
        layer.__dict__.pop("laid_out", None)


def to_lay_out(model: nn.Module) -> list[nn.Linear]:
    """The frozen layers under LoRA that can be laid out."""
    layers = [layer.base_layer for layer in model.modules() if isinstance(layer, LoraLinear) and is_plain_lora(layer)]
    return [layer for layer in layers if type(layer) is nn.Linear]


def layout_bytes(layers: Sequence[nn.Linear], width: int, memory_bytes: int) -> int:
    """What the layouts of these layers take, `width` bytes a number; 0 where a part of the memory is too little and
    there are none."""
    needed = LAYOUTS * width * sum(layer.weight.numel() for layer in layers)
    return needed if needed <= SPARE_SHARE * memory_bytes else 0


class LaidOut:
    """A frozen linear layer there and back; the gradient is of what enters it."""

    def __init__(self, layer: nn.Linear) -> None:
        self.product = _PackedLinear(layer.weight, layer.bias, TRAINING_ROWS)
        self.product_back = _PackedLinear(layer.weight.t().contiguous(), None, TRAINING_ROWS)


class _PackedLinear:
    """x Wᵀ + bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, rows: int = TYPICAL_ROWS) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """other + x Wᵀ, summed before it is rounded."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return total


class _PackedLora:
    """x Wᵀ + bias + (x Aᵀ)(scale · B)ᵀ; the base alone where the adapter is merged, off or not invoked."""

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
        invocation = invocation_of(self.layer)
        if invocation is None:
            return self.up.added_to(out, self.down(x))
        if invocation.active is None:
            return out
        return self.up.added_to(out, self.down(x) * invocation.active[..., None])
