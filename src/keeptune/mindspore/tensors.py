"""torch's tensors as a checkpoint holds them, and back."""

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


def stored(name: str, tensor: Tensor) -> ckpt.Tensor:
    """A floating-point tensor as the file holds it, uncopied where it lies in memory in that order."""
    raw = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return ckpt.Tensor(name, _NAMES[tensor.dtype], tuple(tensor.shape), (raw.reshape(-1).data,))


def restored(own: ckpt.Tensor) -> Tensor:
    """A copy of what a file holds. errors: ModelError when it is of no floating-point format."""
    if own.dtype not in DTYPES:
        raise ModelError(f"{own.name}: adapters are of floating-point numbers, and this is {own.dtype}")
    if not own.size_bytes:
        return torch.empty(own.shape, dtype=DTYPES[own.dtype])
    return torch.frombuffer(own.bytes(), dtype=DTYPES[own.dtype]).reshape(own.shape)
