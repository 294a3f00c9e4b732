"""Answers written by vLLM, which serves many rows on a GPU several times as fast as keeptune's own generator.

vLLM's pins exclude keeptune's, so it lives in a Python of its own, named by KEEPTUNE_VLLM_PYTHON; where that is set,
final scores are asked there. Only tokens come from it: prompts, budgets, stop rule and text are those of any other
score, base and tuned alike. What needs predictions instead of answers, likelihoods and divergences, stays here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from keeptune.errors import ModelError, RecipeError
from keeptune.files import read_json, write_json
from keeptune.generation.distributed import SharedGenerator
from keeptune.generation.engine import Answer, Generator, Row, StopRule
from keeptune.models import load as models
from keeptune.models.adapters import causal_model
from keeptune.models.invocation import invocation_of
from keeptune.subprocess_rpc import ExitError, JsonLinesSubprocess
from keeptune.training.distributed import DistributedContext

PYTHON = "KEEPTUNE_VLLM_PYTHON"
"""The environment variable that names the Python with vLLM in it."""

_VERSION = "from importlib import metadata as m; print(m.version(m.packages_distributions()['vllm'][0]))"
_WORKER = Path(__file__).with_name("vllm_worker.py")
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
_EXIT_ERROR = ExitError("vLLM", "it probably ran out of memory. Unset KEEPTUNE_VLLM_PYTHON", ModelError)


@dataclass(frozen=True, slots=True)
class Served:
    """What vLLM is to load: a base model, and the adapter in a folder that is to count `scale` times."""

    model: str
    dtype: str = "auto"
    quantization: str | None = None
    adapter: Path | None = None
    scale: float = 1.0


def final_generator(model: Any, tokenizer: Any, group: DistributedContext, served: Served) -> SharedGenerator:
    """What writes the answers of final scores: vLLM where its Python is named, else all processes with `model`.

    Those of an adapter with an invocation are always written here: vLLM would let it act on every token.

    errors: RecipeError when the named Python has no vLLM, ModelError when vLLM cannot serve this adapter.
    """
    python = os.environ.get(PYTHON) if invocation_of(causal_model(model)) is None else None
    return (
        VllmGenerator(model, tokenizer, group, served, python) if python else SharedGenerator(model, tokenizer, group)
    )


def require_installed() -> None:
    """errors: RecipeError when a Python is named that has no vLLM."""
    if python := os.environ.get(PYTHON):
        _version(python)


class VllmGenerator(SharedGenerator):
    """A generator whose tokens come from vLLM, which is started for the first answers and ends with it."""

    def __init__(self, model: Any, tokenizer: Any, group: DistributedContext, served: Served, python: str) -> None:
        super().__init__(model, tokenizer, group)
        self.served, self.python = served, python
        self.packages = {"vllm": _version(python)}
        self._rank = _rank(served)
        self._process: JsonLinesSubprocess | None = None
        self._adapters: dict[float, str] = {}
        self._scratch = Path(tempfile.mkdtemp(prefix="keeptune-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)

    answer = Generator.answer
    """By this process alone: what several processes would share is done by vLLM."""

    def _fill(
        self,
        answers: dict[int, Answer],
        rows: list[Row],
        stop: StopRule,
        progress: Callable[[int], None] | None,
    ) -> None:
        """Fills `answers`. errors: ModelError when vLLM ends before it has them."""
        process = self._started()
        prompts, budgets = [row.prompt for row in rows], [row.budget for row in rows]
        process.send({"prompts": prompts, "budgets": budgets, **self._adapter()})
        while (told := process.receive()) is not None:
            new = {int(number): token for number, (token,) in told.items()}
            ended = self._append(rows, list(new), list(new.values()), stop, answers)
            process.send([str(number) for number in ended])
            if progress and ended:
                progress(len(ended))

    def _started(self) -> JsonLinesSubprocess:
        if self._process is None:
            dtype = str(models.dtype(self.served.dtype)).removeprefix("torch.")
            job = {"model": models.resolve(self.served.model), "dtype": dtype, "rank": self._rank}
            # -P: modules beside the worker must not be taken for the standard library's.
            command = [self.python, "-P", str(_WORKER), json.dumps(job)]
            self._process = JsonLinesSubprocess.start(command, self._scratch / "vllm.log", _ENVIRONMENT, _EXIT_ERROR)
            weakref.finalize(self, self._process.close)
            self._process.receive()
        return self._process

    def _adapter(self) -> dict[str, Any]:
        """The adapter of a request as vLLM wants it: a folder whose alpha holds the scale, and a number of its own."""
        scale = self.served.scale if self._scale is None else self._scale
        if self.served.adapter is None or scale == 0:
            return {"adapter": None, "adapter_number": 0}
        if scale not in self._adapters:
            folder = self._scratch / f"adapter-{len(self._adapters) + 1}"
            shutil.copytree(self.served.adapter, folder)
            config = read_json(folder / "adapter_config.json")
            write_json(folder / "adapter_config.json", {**config, "lora_alpha": config["lora_alpha"] * scale})
            self._adapters[scale] = str(folder)
        return {"adapter": self._adapters[scale], "adapter_number": list(self._adapters).index(scale) + 1}


@cache
def _version(python: str) -> str:
    try:
        told = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, check=False)
    except OSError as error:
        raise RecipeError(
            f"{PYTHON}: {python} cannot be started ({error.strerror}); name a Python, or unset it"
        ) from None
    if told.returncode:
        raise RecipeError(f"{PYTHON}: {python} has no vLLM; install vllm there, name another Python, or unset it")
    return told.stdout.strip()


def _rank(served: Served) -> int:
    """The adapter's rank, 0 without one. errors: ModelError when vLLM would not compute what it was trained to."""
    if served.quantization:
        raise ModelError(
            f"{PYTHON}: the adapter's base is kept in {served.quantization}, which vLLM would not round alike; unset it"
        )
    if served.adapter is None:
        return 0
    config = read_json(served.adapter / "adapter_config.json")
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        family = "dora" if config.get("use_dora") else str(config.get("peft_type")).lower()
        raise ModelError(f"{PYTHON}: vLLM serves lora, rslora and pissa, and this adapter is {family}; unset it")
    return int(config["r"])
