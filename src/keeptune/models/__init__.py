"""Models and adapters."""

import sys

# Kernels of the hub are code. transformers and bitsandbytes load some by themselves where the package `kernels` is
# installed, so it is hidden from them.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
