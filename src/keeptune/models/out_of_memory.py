"""Out-of-memory errors with advice, on accelerators and CPUs alike.

Failed allocations have several forms: `torch.OutOfMemoryError` on accelerators, `MemoryError` in Python, and a plain
`RuntimeError` on CPUs and in the libraries of accelerators.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from keeptune.errors import RunError

_MESSAGES = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory")
"""Texts of failed allocations that have no exception class: those of CPUs, cuBLAS, cuDNN and NCCL."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error is a failed memory allocation."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


@contextmanager
def explain_out_of_memory(activity: str) -> Iterator[None]:
    """Converts a failed memory allocation to a RunError that names the activity."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"out of memory in {activity}; completed stages are saved. Run the same command on a machine with more "
            "free memory: `keeptune plan RECIPE` estimates how much"
        ) from None
