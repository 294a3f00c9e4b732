"""Frozen linear layers with weights prepacked for oneDNN on CPUs.

A plain product arranges the weight in memory at every call. In float32, PyTorch calls MKL, which on an AMD processor
runs at a third of oneDNN's speed. During generation no weight changes, so the weights are prepacked once: the product
of 64 rows and 49,152 words in float32 takes 10 ms instead of 36. The cost is a second copy of the weights in memory.

In training, only the adapter changes. So the frozen layers under LoRA are prepacked once, for the forward and for the
backward pass. That is a tenth faster in bfloat16, for two more copies of these layers.
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

from keeptune.models.fused_lora import cached_casts, is_plain_lora
from keeptune.models.invocation import invocation_of
from keeptune.models.pissa import low_rank_matrices

GENERATION_ROWS = 64
"""The number of rows that the layout for generation is optimized for. Other numbers work, a little slower."""

TRAINING_ROWS = 512
"""The number of rows that the layout for training is optimized for."""

TRAINING_COPIES = 2
"""Copies of a layer in training: one each for the forward and the backward pass."""

MAX_MEMORY_SHARE = 0.25
"""The largest share of the memory that prepacked weights of training may take; if they need more, there are none.

The share is of total memory, not of free memory. Prepacked and plain products round differently, and a resumed
training has to produce the same bytes."""


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Temporarily computes all linear layers, with or without LoRA, from prepacked weights.

    Weights must not change meanwhile, and there is no gradient. Disabling the adapter works as before. On an
    accelerator, and where oneDNN lacks the number format, only the adapter is cast once. Nothing changes within another
    such context.
    """
    replaced: list[tuple[nn.Module, Any]] = []
    for layer, forward in _packed_forwards(model):
        replaced.append((layer, layer.__dict__.get("forward")))
        layer.forward = forward
    try:
        with _cached_dora_norms(model), cached_casts(model):
            yield
    finally:
        for layer, previous in replaced:
            del layer.forward
            if previous is not None:
                layer.forward = previous


@contextmanager
def _cached_dora_norms(model: nn.Module) -> Iterator[None]:
    """Computes DoRA's products BA and weight norms once instead of once per token.

    A token of 32 answers of SmolLM2-135M takes 0.11 s on one core instead of 0.45.
    """
    layers = [module for module in model.modules() if isinstance(module, DoraLinearLayer)]
    try:
        with DoraCaching():
            yield
    finally:
        for layer in layers:
            # PEFT clears its cache when a layer enters training mode. The weights may change from here on.
            was_training = layer.training
            layer.train().train(was_training)


def _packed_forwards(model: nn.Module) -> Iterator[tuple[nn.Module, _PackedLinear | _PackedLora]]:
    covered: set[nn.Module] = set()
    for layer in model.modules():
        if isinstance(layer.__dict__.get("forward"), (_PackedLinear, _PackedLora)):
            covered.update(layer.modules())
        elif isinstance(layer, LoraLinear) and is_plain_lora(layer) and _is_supported(layer.base_layer.weight):
            yield layer, _PackedLora(layer)
            covered.update(layer.modules())
        elif type(layer) is nn.Linear and layer not in covered and _is_supported(layer.weight):
            yield layer, _PackedLinear(layer.weight, layer.bias)


def _is_supported(weight: Any) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


def prepack_weights(model: nn.Module, memory_bytes: int) -> None:
    """Prepacks the frozen layers under LoRA for training, if they fit in their share of `memory_bytes`."""
    layers = [layer for layer in prepackable_layers(model) if _is_supported(layer.weight)]
    if layers and prepacked_bytes(layers, layers[0].weight.itemsize, memory_bytes):
        for layer in layers:
            layer.__dict__["prepacked"] = PrepackedLinear(layer)  # not a submodule, so that it is never saved


def drop_prepacked_weights(model: nn.Module) -> None:
    """Frees the prepacked weights, so that later stages compute as they do in a process that did not train."""
    for layer in model.modules():
        layer.__dict__.pop("prepacked", None)


def prepackable_layers(model: nn.Module) -> list[nn.Linear]:
    """The frozen layers under LoRA that can be prepacked."""
    layers = [layer.base_layer for layer in model.modules() if isinstance(layer, LoraLinear) and is_plain_lora(layer)]
    return [layer for layer in layers if type(layer) is nn.Linear]


def prepacked_bytes(layers: Sequence[nn.Linear], bytes_per_weight: int, memory_bytes: int) -> int:
    """The memory of prepacked weights for training; 0 if they exceed their share of `memory_bytes`."""
    needed = TRAINING_COPIES * bytes_per_weight * sum(layer.weight.numel() for layer in layers)
    return needed if needed <= MAX_MEMORY_SHARE * memory_bytes else 0


class PrepackedLinear:
    """The products of a frozen linear layer in the forward and the backward pass."""

    def __init__(self, layer: nn.Linear) -> None:
        self.product = _PackedLinear(layer.weight, layer.bias, TRAINING_ROWS)
        self.input_gradient = _PackedLinear(layer.weight.t().contiguous(), None, TRAINING_ROWS)


class _PackedLinear:
    """x Wᵀ + bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, rows: int = GENERATION_ROWS) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return output

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """other + x Wᵀ, summed before rounding."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return total


class _PackedLora:
    """x Wᵀ + bias + (x Aᵀ)(scale · B)ᵀ; only the base where the adapter is merged, disabled or not invoked."""

    def __init__(self, layer: Any) -> None:
        self.layer, base = layer, layer.base_layer
        a, _ = low_rank_matrices(layer)
        self.name = next(iter(layer.lora_A))
        self.base = _PackedLinear(base.weight, base.bias)
        self.down = _PackedLinear(a.to(base.weight.dtype))
        self.up_by_scale: dict[float, _PackedLinear] = {}

    def __call__(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        output = self.base(x)
        if self.layer.merged or self.layer.disable_adapters:
            return output
        invocation = invocation_of(self.layer)
        if invocation is None:
            return self._up().added_to(output, self.down(x))
        if invocation.active is None:
            return output
        return self._up().added_to(output, self.down(x) * invocation.active[..., None])

    def _up(self) -> _PackedLinear:
        """scale · B at the current scale, packed once per scale: B is small, and a server alternates between scales."""
        scale = self.layer.scaling[self.name]
        if scale not in self.up_by_scale:
            _, b = low_rank_matrices(self.layer)
            self.up_by_scale[scale] = _PackedLinear((b * scale).to(self.layer.base_layer.weight.dtype))
        return self.up_by_scale[scale]
