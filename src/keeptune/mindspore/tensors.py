"""Converts tensors between torch and MindSpore checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.mindspore import ckpt

DTYPES = {
    "Float16": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float32": torch.float32,
    "Float64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def to_ckpt(name: str, tensor: Tensor) -> ckpt.Tensor:
    """A floating-point tensor as a checkpoint stores it. It is copied only if it is not contiguous on the CPU."""
    raw = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return ckpt.Tensor(name, _NAMES[tensor.dtype], tuple(tensor.shape), (raw.reshape(-1).data,))


def to_torch(stored: ckpt.Tensor) -> Tensor:
    """A copy of a checkpoint's tensor.

    Raises:
        ModelError: when its dtype is not a floating-point type.
    """
    if stored.dtype not in DTYPES:
        raise ModelError(f"{stored.name}: adapter tensors must be floating-point numbers (got {stored.dtype})")
    if not stored.size_bytes:
        return torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
    return torch.frombuffer(stored.bytes(), dtype=DTYPES[stored.dtype]).reshape(stored.shape)
