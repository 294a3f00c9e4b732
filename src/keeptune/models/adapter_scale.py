"""Scaling of an adapter, per family: base weights plus `scale` times the change that tuning made.

LoRA has a scaling factor. VeRA's output vector acts as one. (IA)³ multiplies activations, so its vectors are moved
towards one instead of zero. DoRA also divides by a norm, so no parameter is proportional to the change, and its output
is scaled instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from peft.tuners.ia3.layer import IA3Layer
from peft.tuners.vera.layer import VeraLayer
from torch import Tensor, nn

Undo = Callable[[], None]


def rescale(layer: Any, scale: float) -> Undo:
    """Multiplies the change that one layer's adapter makes by `scale`. The result restores it, bit for bit."""
    if scale == 1:
        return lambda: None
    if isinstance(layer, VeraLayer):
        return _replace(layer.vera_lambda_b.values(), lambda vector: scale * vector)
    if isinstance(layer, IA3Layer):
        return _replace(layer.ia3_l.values(), lambda vector: 1 + scale * (vector - 1))
    if len(layer.lora_magnitude_vector):
        return _scale_outputs(layer.lora_magnitude_vector.values(), scale)
    before = dict(layer.scaling)
    layer.scaling = {name: value * scale for name, value in before.items()}

    def undo() -> None:
        layer.scaling = before

    return undo


def _replace(parameters: Iterable[nn.Parameter], change: Callable[[Tensor], Tensor]) -> Undo:
    before = [(parameter, parameter.data) for parameter in parameters]
    for parameter, data in before:
        parameter.data = change(data)

    def undo() -> None:
        for parameter, data in before:
            parameter.data = data

    return undo


def _scale_outputs(modules: Iterable[nn.Module], scale: float) -> Undo:
    """Scales the outputs of DoRA's modules, which PEFT adds to the output of the base layer."""
    hooks = [module.register_forward_hook(lambda _, __, added: added * scale) for module in modules]

    def undo() -> None:
        for hook in hooks:
            hook.remove()

    return undo
