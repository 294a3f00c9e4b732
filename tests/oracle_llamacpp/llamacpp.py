"""Starts llamacpp_program.py in the Python that has llama.cpp."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.files import read_json, write_json

PYTHON = "KEEPTUNE_LLAMACPP_PYTHON"
PROGRAM = Path(__file__).with_name("llamacpp_program.py")


def run_llamacpp(
    folder: Path,
    model: Path,
    adapter: Path | None = None,
    texts: Sequence[str] = (),
    chats: Sequence[list[dict[str, str]]] = (),
    prompts: Sequence[str] = (),
    budgets: Sequence[int] = (),
    context: int = 1024,
) -> dict[str, Any]:
    """Tokens of texts, renderings of conversations and greedy answers to prompts, by llama.cpp.

    Args:
        folder: for the files of the job.
        model: a GGUF file.
        adapter: a GGUF file with a LoRA, at full scale.
        texts: to tokenize.
        chats: to render with the chat template of the model file.
        prompts: to answer.
        budgets: the maximum number of new tokens per prompt.
        context: the longest prompt with its answer, in tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "model": str(model),
        "adapter": str(adapter) if adapter else None,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "context": context,
        "texts": list(texts),
        "chats": list(chats),
        "prompts": list(prompts),
        "budgets": list(budgets),
    }
    write_json(folder / "job.json", job)
    # Environment variables of this Python must not affect the other one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [os.environ[PYTHON], str(PROGRAM), str(folder / "job.json"), str(folder / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return read_json(folder / "result.json")
