"""Too little memory is an error like others: it says what could not be done, and what helps.

PyTorch has a class of its own for that on accelerators and none on processors, and Python has another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from keeptune.errors import RunError


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """While it lasts, RunError is raised where memory does not suffice for `what`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"out of memory in {what}; what was complete before is kept. Run the same command where more memory is "
            "free: `keeptune plan RECIPE` estimates how much"
        ) from None
