"""Out-of-memory errors with advice, on accelerators and CPUs alike.

PyTorch has an exception class for accelerators but none for CPUs, and Python has one more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from keeptune.errors import RunError


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error is a failed memory allocation."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


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
