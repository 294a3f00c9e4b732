"""Frozen linear layers with quantized weights, so that a larger model fits in memory or multiplies faster.

int8    one scale per output; one byte per weight; dequantized for each product
nf4     QLoRA's four-bit floats in blocks of 64 (arXiv 2305.14314), by bitsandbytes; half a byte per weight
fp8     E4M3 with one scale per output. Inputs and gradients are rounded too, and Hopper multiplies them twice as fast
        as bfloat16. The backward pass needs another layout, so there are two copies: two bytes per weight

Only frozen weights are rounded; the adapter and its optimizer stay in float32. Base and tuned use the same rounded
weights, so that they differ in the adapter alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from keeptune.errors import ModelError

NF4_BLOCK = 64
"""The number of weights that share a scale in nf4."""

FLOAT8 = torch.float8_e4m3fn
LARGEST_FLOAT8 = 448.0
FLOAT8_MULTIPLE = 16
"""Products in fp8 need layer sizes that are multiples of this number."""


class QuantizedLinear(nn.Linear):
    """A linear layer with a frozen, rounded weight. PEFT treats it as any other linear layer."""

    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.number_format = layer.weight.dtype
        self._quantize(layer.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x Wᵀ + bias, from `(..., inputs)` to `(..., outputs)`."""
        output: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return output

    def product(self, rows: Tensor) -> Tensor:
        """rows Wᵀ + bias, from `(rows, inputs)` to `(rows, outputs)`."""
        return functional.linear(rows, self.dequantized_weight(), self.bias)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to the input, from `(rows, outputs)` to `(rows, inputs)`."""
        return gradient @ self.dequantized_weight()

    def dequantized_weight(self) -> Tensor:
        """The rounded weight in the model's number format, of shape `(outputs, inputs)`."""
        raise NotImplementedError

    def _quantize(self, weight: Tensor) -> None:
        raise NotImplementedError

    def _store(self, weight: Tensor, scale: Tensor) -> None:
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)


class Int8Linear(QuantizedLinear):
    """Integers from -127 to 127 times one scale per output."""

    def _quantize(self, weight: Tensor) -> None:
        # The scale is rounded first, so that dequantization in the model's format is exact.
        largest = weight.abs().amax(dim=1, keepdim=True).float() / 127
        scale = largest.clamp(min=torch.finfo(weight.dtype).tiny).to(weight.dtype)
        integers = (weight.float() / scale.float()).round().clamp(-127, 127)
        self._store(integers.to(torch.int8), scale)

    def dequantized_weight(self) -> Tensor:
        return self.weight.to(self.number_format).mul_(self.scale)


class Nf4Linear(QuantizedLinear):
    """Sixteen levels at the quantiles of a normal distribution."""

    def _quantize(self, weight: Tensor) -> None:
        from bitsandbytes import functional as bitsandbytes

        packed, state = bitsandbytes.quantize_4bit(weight.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4")
        self._store(packed, state.absmax)

    def dequantized_weight(self) -> Tensor:
        from bitsandbytes import functional as bitsandbytes

        shape = torch.Size((self.out_features, self.in_features))
        state = bitsandbytes.QuantState(  # type: ignore[no-untyped-call]
            self.scale, shape, None, NF4_BLOCK, "nf4", self.number_format
        )
        weight: Tensor = bitsandbytes.dequantize_4bit(self.weight, state)
        return weight


class Float8Linear(QuantizedLinear):
    """Eight-bit floats, multiplied in that format.

    The weights are stored as bytes, because PEFT would otherwise create the adapter in the same format.
    """

    weight_back: Tensor
    scale_back: Tensor

    def _quantize(self, weight: Tensor) -> None:
        if self.in_features % FLOAT8_MULTIPLE or self.out_features % FLOAT8_MULTIPLE:
            raise ModelError(
                f"model.quantization: fp8 needs layer sizes that are multiples of {FLOAT8_MULTIPLE}, but a layer has "
                f"{self.in_features} inputs and {self.out_features} outputs; choose int8 or nf4"
            )
        forward_weight, scale = _to_float8(weight)
        weight_back, scale_back = _to_float8(weight.t())
        self._store(forward_weight.view(torch.uint8), scale)
        # Renaming these buffers would change the hash of the model's weights (models/load.py).
        self.register_buffer("weight_back", weight_back.view(torch.uint8))
        self.register_buffer("scale_back", scale_back)

    def product(self, rows: Tensor) -> Tensor:
        output = _float8_product(rows, self.weight, self.scale)
        return output if self.bias is None else output.add_(self.bias)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        return _float8_product(gradient, self.weight_back, self.scale_back)

    def dequantized_weight(self) -> Tensor:
        return (self.weight.view(FLOAT8).float() * self.scale).to(self.number_format)


LAYER_TYPES: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, "nf4": Nf4Linear, "fp8": Float8Linear}

BYTES_PER_WEIGHT = {"int8": 1.0, "nf4": 0.5625, "fp8": 2.0}
"""Includes the scales of nf4's blocks. Scales per output are too few to count."""


def quantize(model: nn.Module, quantization: str, device: torch.device) -> None:
    """Quantizes all linear layers except the output layer, in place.

    Each layer is moved to `device` first, one at a time, because the whole model may not fit there unquantized.

    Raises:
        ModelError: if a package is missing, or if the sizes of a layer do not suit.
    """
    if quantization == "nf4" and find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.quantization: nf4 needs bitsandbytes; run `pip install 'keeptune[nf4]'`, or choose int8"
        )
    for path, layer in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if type(layer) is nn.Linear and name != "lm_head":
            setattr(model.get_submodule(parent), name, LAYER_TYPES[quantization](layer.to(device)))


def dequantize(model: Any) -> Any:
    """Replaces quantized layers by plain linear layers with the rounded weights, in place, and returns the model."""
    for path, layer in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if isinstance(layer, QuantizedLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            plain.weight, plain.bias = nn.Parameter(layer.dequantized_weight(), requires_grad=False), layer.bias
            setattr(model.get_submodule(parent), name, plain)
    return model


def product(layer: nn.Linear, rows: Tensor) -> Tensor:
    """rows Wᵀ + bias of a plain, quantized or prepacked layer, from `(rows, inputs)` to `(rows, outputs)`."""
    implementation = _implementation(layer)
    return functional.linear(rows, layer.weight, layer.bias) if implementation is None else implementation.product(rows)


def input_gradient(layer: nn.Linear, gradient: Tensor) -> Tensor:
    """The gradient with respect to the input of such a layer, from `(rows, outputs)` to `(rows, inputs)`."""
    implementation = _implementation(layer)
    return gradient @ layer.weight if implementation is None else implementation.input_gradient(gradient)


def _implementation(layer: nn.Linear) -> Any:
    """The object that computes a layer's products: a quantized layer, or prepacked weights; None for a plain layer."""
    return layer if isinstance(layer, QuantizedLinear) else layer.__dict__.get("prepacked")


def count_packed_weights(model: nn.Module) -> int:
    """The number of weights that `parameters()` does not show, because a tensor element holds several of them."""
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    return sum(layer.in_features * layer.out_features - layer.weight.numel() for layer in layers)


class _Product(torch.autograd.Function):
    """x Wᵀ + bias of a frozen layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].reshape(-1, ctx.layer.out_features)
        return ctx.layer.input_gradient(gradient).view(ctx.shape), None


def _to_float8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds rows to eight-bit floats. Returns them, of shape `(rows, columns)`, and their scales, `(rows, 1)`."""
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / LARGEST_FLOAT8).clamp(min=1e-12)
    return (rows.float() / scale).clamp(-LARGEST_FLOAT8, LARGEST_FLOAT8).to(FLOAT8).contiguous(), scale


def _float8_product(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """rows Wᵀ in eight-bit floats.

    Args:
        rows: of shape `(rows, inputs)`.
        weight: eight-bit floats, of shape `(outputs, inputs)`.
        scale: the scales of the weight, of shape `(outputs, 1)`.
    """
    rounded, row_scale = _to_float8(rows)
    output = torch._scaled_mm(
        rounded, weight.view(FLOAT8).t(), scale_a=row_scale, scale_b=scale.t(), out_dtype=torch.bfloat16
    )
    return output.to(rows.dtype)
