"""How much energy an accelerator has used; for the sides of this project and for those of others."""

from __future__ import annotations

import torch


def joules() -> float | None:
    """What the accelerator in use has taken since its driver was loaded; None where NVML does not tell.

    NVML counts devices otherwise than CUDA_VISIBLE_DEVICES does, so the device is asked for by its UUID.
    """
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000
    except pynvml.NVMLError:
        return None


def a_token(before: float | None, after: float | None, tokens: int) -> float | None:
    """Joules a token, where both readings are there."""
    return None if before is None or after is None else (after - before) / tokens
