"""A CUDA device without hardware, for tests: `emulated_card.cpp` computes on the processor, and this module counts.

`activate` loads the library into this process. It must run before PyTorch is imported, and cannot be undone. So tests
on the card run in a separate process (plugin.py).

The kernels that only CUDA has are in kernels.py.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("emulated_card.cpp")
TOTAL_BYTES = 80 << 30
_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p)


def compiler() -> str | None:
    """The C++ compiler, if this machine has one."""
    return shutil.which("g++")


def build() -> Path:
    """The library, compiled once per version of its source and of PyTorch (about seven seconds)."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    digest = hashlib.sha256(SOURCE.read_bytes() + (package / "version.py").read_bytes()).hexdigest()
    folder = Path(os.environ.get("KEEPTUNE_CACHE") or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"emulated_card_{digest[:16]}.so"
    if not library.is_file():
        scratch = library.with_suffix(f".{os.getpid()}")
        paths = [f"-I{package / 'include'}", f"-L{package / 'lib'}", f"-Wl,-rpath,{package / 'lib'}"]
        command = ["g++", "-std=c++20", "-shared", "-fPIC", "-w", str(SOURCE), *paths, "-ltorch_cpu", "-lc10"]
        subprocess.run([*command, "-o", str(scratch)], check=True)
        scratch.replace(library)
    return library


@dataclass
class Card:
    """The work of the device since the last `reset`.

    Attributes:
        launches: kernels, by the name of the operator.
        waits: the times that the host waited for the device, by operator and line of keeptune.
        transfers: copies for which the host did not wait.
        attention: kernels of attention, by name.
        free_bytes: the memory that the device reports as free.
    """

    library: ctypes.CDLL
    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    transfers: Counter[str] = field(default_factory=Counter)
    attention: Counter[str] = field(default_factory=Counter)
    free_bytes: int = TOTAL_BYTES
    is_counting: bool = True

    def report(self, kind: bytes, name: bytes) -> None:
        """Called for each event by the library."""
        if not self.is_counting:
            return
        if kind == b"launch":
            self.launches[name.decode()] += 1
        else:
            counter = self.waits if kind == b"wait" else self.transfers
            counter[f"{name.decode()} at {_line()}"] += 1

    def reset(self) -> None:
        """Forgets all counts, and the peak of the memory."""
        for counter in (self.launches, self.waits, self.transfers, self.attention):
            counter.clear()
        self.library.card_reset_peak()

    @property
    def used_bytes(self) -> int:
        """The memory in use on the device."""
        return int(self.library.card_used_bytes())

    @property
    def peak_bytes(self) -> int:
        """The largest memory in use since the last reset."""
        return int(self.library.card_peak_bytes())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing, for what one kernel of a real device does with several kernels of the processor."""
        before, self.is_counting = self.is_counting, False
        try:
            yield
        finally:
            self.is_counting = before

    def ran_attention(self, name: str) -> None:
        """Counts a kernel of attention."""
        if self.is_counting:
            self.attention[name] += 1
            self.launches[f"attention::{name}"] += 1


def _line() -> str:
    """The line of keeptune that runs now; autograd's threads run no Python."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename.replace(os.sep, "/")
        if "/src/keeptune/" in path:
            return f"{path.rpartition('/src/keeptune/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward, or outside of keeptune"


def activate() -> Card:
    """Makes this process believe in a card, and returns what counts its work."""
    assert "torch" not in sys.modules, "the library must be loaded before PyTorch"
    library = ctypes.CDLL(str(build()), mode=ctypes.RTLD_GLOBAL)
    library.card_used_bytes.restype = library.card_peak_bytes.restype = ctypes.c_size_t
    card = Card(library)
    callback = _REPORT(card.report)
    library.card_set_callback.argtypes = [_REPORT]
    library.card_set_callback(callback)
    card.__dict__["callback"] = callback  # ctypes does not hold it

    import torch
    from emulated_card import kernels

    import keeptune.generation.self_test
    import keeptune.training.trainer_factory  # noqa: F401  (PEFT asks for kernels when it is imported)

    cuda: Any = torch.cuda
    cuda._lazy_init = lambda: None
    cuda.is_available = cuda.is_bf16_supported = lambda *_, **__: True
    cuda.device_count, cuda.current_device = lambda: 1, lambda: 0
    cuda.memory_reserved = cuda.memory_allocated = lambda *_: 0
    cuda.get_device_name = lambda *_: "emulated"
    cuda.mem_get_info = torch.accelerator.get_memory_info = lambda *_: (card.free_bytes, TOTAL_BYTES)
    torch.accelerator.empty_cache = lambda: None
    # Dropout draws from the generator of the processor.
    cuda.get_rng_state, cuda.set_rng_state = (
        lambda _: torch.get_rng_state(),
        lambda state, _: torch.set_rng_state(state),
    )
    kernels.install(card)
    return card
