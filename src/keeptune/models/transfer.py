"""Copies from the processor to an accelerator for which the processor does not wait.

A copy from ordinary memory makes the processor wait until the device has finished all earlier work. So values that
the processor computes go through pinned memory, in as few copies as possible.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor on `device`. On CUDA, the copy is queued behind the work of the device."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
