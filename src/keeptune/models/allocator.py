"""Freed memory stays with the process: twice the training speed on a processor.

A training step frees and asks again for the same few hundred activations. The C library gives every large block back
to the kernel and gets it back page by page, zeroed: measured on SmolLM2-135M, that took as long as the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Whether the C library has been told to keep what is freed (glibc only; elsewhere nothing happens)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    # A list, because every setting is to be made even if one is refused.
    return all([mallopt(name, value) == 1 for name, value in settings])  # noqa: C419
