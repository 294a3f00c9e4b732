"""Frozen linear layers whose weights are kept in fewer bits, so that a larger model fits, or is multiplied faster.

int8    one scale for each output; a byte a number, made whole again for every product
nf4     QLoRA's four-bit floats in blocks of 64 (arXiv 2305.14314), by bitsandbytes; half a byte a number
fp8     E4M3 with one scale for each output; inputs and gradients are rounded too, and Hopper multiplies them twice as
        fast as bfloat16. The way back needs another layout, so there are two copies: two bytes a number

Only what is frozen is rounded; the adapter and its optimiser stay in float32. Base and tuned stand on the same rounded
weights, so that what is compared differs in the adapter alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from keeptune.errors import ModelError

NF4_BLOCK = 64
"""Numbers that share a scale in nf4."""

FLOAT8 = torch.float8_e4m3fn
LARGEST_FLOAT8 = 448.0
FLOAT8_MULTIPLE = 16
"""What sizes of a layer must be a multiple of for products in fp8."""


class QuantisedLinear(nn.Linear):
    """A linear layer whose weight does not change and is kept rounded; PEFT takes it for any other linear layer."""

    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.number_format = layer.weight.dtype
        self._keep(layer.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """shapes: x (..., inputs); returned (..., outputs)."""
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product

    def product(self, rows: Tensor) -> Tensor:
        """rows Wᵀ + bias. shapes: rows (rows, inputs); returned (rows, outputs)."""
        return functional.linear(rows, self.whole_weight(), self.bias)

    def product_back(self, gradient: Tensor) -> Tensor:
        """The gradient of what entered. shapes: gradient (rows, outputs); returned (rows, inputs)."""
        return gradient @ self.whole_weight()

    def whole_weight(self) -> Tensor:
        """The rounded weight in the model's number format. shape: (outputs, inputs)."""
        raise NotImplementedError

    def _keep(self, weight: Tensor) -> None:
        raise NotImplementedError

    def _hold(self, weight: Tensor, scale: Tensor) -> None:
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)


class Int8Linear(QuantisedLinear):
    """Whole numbers from -127 to 127 times a scale for each output."""

    def _keep(self, weight: Tensor) -> None:
        # The scale is rounded first, so that nothing is lost when it is multiplied in the model's format.
        largest = weight.abs().amax(dim=1, keepdim=True).float() / 127
        scale = largest.clamp(min=torch.finfo(weight.dtype).tiny).to(weight.dtype)
        whole = (weight.float() / scale.float()).round().clamp(-127, 127)
        self._hold(whole.to(torch.int8), scale)

    def whole_weight(self) -> Tensor:
        return self.weight.to(self.number_format).mul_(self.scale)


class Nf4Linear(QuantisedLinear):
    """Sixteen levels, as far apart as normally distributed weights are dense."""

    def _keep(self, weight: Tensor) -> None:
        from bitsandbytes import functional as bitsandbytes

        packed, state = bitsandbytes.quantize_4bit(weight.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4")
        self._hold(packed, state.absmax)

    def whole_weight(self) -> Tensor:
        from bitsandbytes import functional as bitsandbytes

        shape = torch.Size((self.out_features, self.in_features))
        state = bitsandbytes.QuantState(  # type: ignore[no-untyped-call]
            self.scale, shape, None, NF4_BLOCK, "nf4", self.number_format
        )
        whole: Tensor = bitsandbytes.dequantize_4bit(self.weight, state)
        return whole


class Float8Linear(QuantisedLinear):
    """Eight-bit floats, multiplied as such. Stored as bytes, or PEFT would make the adapter of the same format."""

    weight_back: Tensor
    scale_back: Tensor

    def _keep(self, weight: Tensor) -> None:
        if self.in_features % FLOAT8_MULTIPLE or self.out_features % FLOAT8_MULTIPLE:
            raise ModelError(
                f"model.quantization: fp8 needs layers whose sizes are multiples of {FLOAT8_MULTIPLE}, and one has "
                f"{self.in_features} inputs and {self.out_features} outputs; take int8 or nf4"
            )
        forwards, scale = _rounded(weight)
        backwards, scale_back = _rounded(weight.t())
        self._hold(forwards.view(torch.uint8), scale)
        self.register_buffer("weight_back", backwards.view(torch.uint8))
        self.register_buffer("scale_back", scale_back)

    def product(self, rows: Tensor) -> Tensor:
        out = _float8_product(rows, self.weight, self.scale)
        return out if self.bias is None else out.add_(self.bias)

    def product_back(self, gradient: Tensor) -> Tensor:
        return _float8_product(gradient, self.weight_back, self.scale_back)

    def whole_weight(self) -> Tensor:
        return (self.weight.view(FLOAT8).float() * self.scale).to(self.number_format)


KINDS: dict[str, type[QuantisedLinear]] = {"int8": Int8Linear, "nf4": Nf4Linear, "fp8": Float8Linear}

BYTES_A_WEIGHT = {"int8": 1.0, "nf4": 0.5625, "fp8": 2.0}
"""What a number takes, the scales of nf4's blocks included; those of whole outputs are too few to count."""


def quantise(model: nn.Module, kind: str, device: torch.device) -> None:
    """Rounds the weights of all linear layers but the output layer, each once it is on `device`, which may be too small
    for the model in its own format.

    errors: ModelError when a package is missing, or sizes do not suit.
    """
    if kind == "nf4" and find_spec("bitsandbytes") is None:
        raise ModelError("model.quantization: nf4 needs bitsandbytes; pip install 'keeptune[nf4]', or take int8")
    for path, layer in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if type(layer) is nn.Linear and name != "lm_head":
            setattr(model.get_submodule(parent), name, KINDS[kind](layer.to(device)))


def made_whole(model: Any) -> Any:
    """The model with plain linear layers in place of rounded ones, of the weights that these compute with."""
    for path, layer in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if isinstance(layer, QuantisedLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            plain.weight, plain.bias = nn.Parameter(layer.whole_weight(), requires_grad=False), layer.bias
            setattr(model.get_submodule(parent), name, plain)
    return model


def product(layer: nn.Linear, rows: Tensor) -> Tensor:
    """rows Wᵀ + bias of a linear layer, quantised or laid out or neither. shapes: rows (rows, inputs); returned
    (rows, outputs)."""
    own = _own_products(layer)
    return functional.linear(rows, layer.weight, layer.bias) if own is None else own.product(rows)


def product_back(layer: nn.Linear, gradient: Tensor) -> Tensor:
    """The gradient of what entered it. shapes: gradient (rows, outputs); returned (rows, inputs)."""
    own = _own_products(layer)
    return gradient @ layer.weight if own is None else own.product_back(gradient)


def _own_products(layer: nn.Linear) -> Any:
    """What has products of its own: a quantised layer itself, or how a layer was laid out (model/packed.py)."""
    return layer if isinstance(layer, QuantisedLinear) else layer.__dict__.get("laid_out")


def hidden_numbers(model: nn.Module) -> int:
    """How many numbers of the model's weights its parameters do not show, for several are packed into one."""
    layers = [layer for layer in model.modules() if isinstance(layer, QuantisedLinear)]
    return sum(layer.in_features * layer.out_features - layer.weight.numel() for layer in layers)


class _Product(torch.autograd.Function):
    """x Wᵀ + bias of a layer that gets no gradient itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].reshape(-1, ctx.layer.out_features)
        return ctx.layer.product_back(gradient).view(ctx.shape), None


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in eight-bit floats, and a scale for each. shapes: rows (rows, columns); scale (rows, 1)."""
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / LARGEST_FLOAT8).clamp(min=1e-12)
    return (rows.float() / scale).clamp(-LARGEST_FLOAT8, LARGEST_FLOAT8).to(FLOAT8).contiguous(), scale


def _float8_product(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """rows Wᵀ in eight-bit floats. shapes: rows (rows, inputs); weight (outputs, inputs); scale (outputs, 1)."""
    rounded, own_scale = _rounded(rows)
    out = torch._scaled_mm(
        rounded, weight.view(FLOAT8).t(), scale_a=own_scale, scale_b=scale.t(), out_dtype=torch.bfloat16
    )
    return out.to(rows.dtype)
