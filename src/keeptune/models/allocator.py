"""C allocator settings that keep freed memory in the process. They double the training speed on a CPU.

A training step frees and allocates the same few hundred activations again and again. By default, the C library returns
each large block to the kernel, and gets it back page by page, filled with zeros. For SmolLM2-135M that took as long as
the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Configures glibc to keep freed memory, and returns whether that worked. Other C libraries stay unchanged."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    # A list, because every option must be set even if one fails.
    return all([mallopt(name, value) == 1 for name, value in settings])  # noqa: C419
