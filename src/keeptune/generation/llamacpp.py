"""Runs llama.cpp's server on GGUF files, to evaluate them in the program that serves them.

llama.cpp comes as the wheel `xllamacpp`. It is used from this Python where it is installed, or from another one: set
KEEPTUNE_LLAMACPP_PYTHON to it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from keeptune.errors import ModelError
from keeptune.generation.gguf_metadata import read_metadata
from keeptune.generation.server_connection import ServerConnection, connect
from keeptune.subprocess_rpc import ExitError, JsonLinesSubprocess

PYTHON = "KEEPTUNE_LLAMACPP_PYTHON"
"""Environment variable with the path of a Python in which xllamacpp is installed."""

SLOTS = 4
"""Prompts that are answered at the same time."""

CONTEXT_TOKENS = 5_120
"""The longest prompt of the retention suite with its answer, in tokens. Models made for less get what they can."""

_WORKER = Path(__file__).with_name("llamacpp_worker.py")
_EXIT_ERROR = ExitError("llama.cpp", "it probably ran out of memory. Use a smaller file or machine", ModelError)


@contextmanager
def serving(
    model: Path, adapters: Sequence[Path] = (), context_tokens: int = CONTEXT_TOKENS, slots: int = SLOTS
) -> Iterator[ServerConnection]:
    """A running server of a GGUF file, with GGUF adapters at full scale.

    Args:
        model: the GGUF file.
        adapters: GGUF files with a LoRA.
        context_tokens: the longest prompt with its answer.
        slots: prompts that are answered at the same time. Each slot has memory for `context_tokens`.

    Raises:
        ModelError: llama.cpp is not installed, or cannot load a file.
    """
    job = {
        "model": str(model.resolve()),
        "adapters": [str(adapter.resolve()) for adapter in adapters],
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "slots": slots,
        "context": min(context_tokens, _context_length(model)),
    }
    command = [find_python(), "-I", str(_WORKER), json.dumps(job)]
    with tempfile.TemporaryDirectory(prefix="keeptune-llamacpp-") as scratch:
        process = JsonLinesSubprocess.start(command, Path(scratch) / "llamacpp.log", {}, _EXIT_ERROR)
        try:
            yield connect(process.receive()["url"])
        finally:
            process.close()


def find_python() -> str:
    """The Python that has llama.cpp.

    Raises:
        ModelError: none is known.
    """
    if python := os.environ.get(PYTHON):
        return python
    if find_spec("xllamacpp"):
        return sys.executable
    raise ModelError(
        f"GGUF files are evaluated with llama.cpp, which is not installed: pip install xllamacpp here, or set {PYTHON} "
        "to a Python that has it, or start llama-server yourself and give its address"
    )


def _context_length(model: Path) -> int:
    """The number of tokens that the model of a GGUF file was made for.

    Raises:
        ModelError: the file is no GGUF file, or a damaged one.
    """
    try:
        metadata = read_metadata(model)
        return int(metadata[f"{metadata['general.architecture']}.context_length"])
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise ModelError(f"{model}: is no GGUF file of a model ({error}); export it again") from None
