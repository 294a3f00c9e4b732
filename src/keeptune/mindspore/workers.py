"""Starts and stops the processes of the MindSpore engine, and sends requests to them.

Each process is a Python with MindSpore that runs keeptune/mindspore/engine.py. Several processes compute a step
together. They are started as `msrun` starts them on one machine: a scheduler process connects them.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keeptune
from keeptune.errors import RecipeError, TrainingError
from keeptune.subprocess_rpc import ExitError, JsonLinesSubprocess, has_package, start_process, stop_process

PYTHON = "KEEPTUNE_MINDSPORE_PYTHON"
"""The environment variable with the path of the Python that has MindSpore."""

WORKERS = "KEEPTUNE_MINDSPORE_WORKERS"
"""The environment variable with the number of processes that train together, one per device."""

_DEFAULT_PYTHON = Path(".venv-mindspore/bin/python")
_SCHEDULER = "from mindspore.communication import init; init()"
_LOG = "mindspore.log"
_EXIT_ERROR = ExitError(
    "MindSpore",
    "it probably ran out of memory. MindSpore keeps one graph per row length (64, 128, 256, …). Lower data.max_tokens "
    "or use a machine with more memory. The same command resumes from the last checkpoint",
    TrainingError,
)


class Workers:
    """The engine's processes; their number comes from KEEPTUNE_MINDSPORE_WORKERS.

    Raises:
        RecipeError: when no Python with MindSpore is found, or the number of processes is invalid.
    """

    def __init__(self) -> None:
        self.python, self.count = python_with_mindspore(), _worker_count()
        self.processes: list[JsonLinesSubprocess] = []
        self._scheduler: subprocess.Popen[str] | None = None

    def start(self, folder: Path) -> None:
        """Starts all processes and waits until they have read the job in `folder`.

        Raises:
            TrainingError: when a process exits instead.
        """
        log, python = folder / _LOG, str(self.python)
        common = {"PYTHONPATH": str(_isolated_package(folder)), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        cluster = {"MS_WORKER_NUM": str(self.count), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(_free_port())}
        if self.count > 1:
            scheduler = {**common, **cluster, "MS_ROLE": "MS_SCHED"}
            self._scheduler = start_process([python, "-c", _SCHEDULER], log, scheduler)
        for number in range(self.count):
            worker = {**cluster, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(number), "DEVICE_ID": str(number)}
            environment = {**common, **(worker if self.count > 1 else {})}
            command = [python, "-m", "keeptune.mindspore.engine", str(folder)]
            self.processes.append(JsonLinesSubprocess.start(command, log, environment, _EXIT_ERROR))
        for process in self.processes:
            process.receive()

    def request(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Sends one request to each of the first processes and returns their answers.

        Raises:
            TrainingError: when a process has exited; the message has the end of its log.
        """
        processes = self.processes[: len(requests)]
        for process, request in zip(processes, requests, strict=True):
            process.send(request)
        return [process.receive() for process in processes]

    def stop(self) -> bool:
        """Stops all processes. Returns whether all exited with code 0."""
        codes = [process.close() for process in self.processes]
        if self._scheduler is not None:
            codes.append(stop_process(self._scheduler))
        return not any(codes)


def python_with_mindspore() -> Path:
    """The Python that runs the engine.

    Raises:
        RecipeError: when there is no such Python, or it has no MindSpore.
    """
    python = Path(os.environ.get(PYTHON, _DEFAULT_PYTHON))
    if not has_package(python, "mindspore"):
        raise RecipeError(
            f"engine: mindspore needs a Python with MindSpore, and {python} is not one; run `make setup-mindspore` to "
            f"create {_DEFAULT_PYTHON}, or set {PYTHON} to another"
        )
    return python.absolute()


def _worker_count() -> int:
    value = os.environ.get(WORKERS, "1")
    if not value.isdecimal() or int(value) == 0:
        raise RecipeError(f"{WORKERS} must be an integer > 0, the number of MindSpore processes (got {value!r})")
    return int(value)


def _isolated_package(folder: Path) -> Path:
    """A folder that holds only a link to keeptune: the other packages installed beside it do not suit MindSpore."""
    isolated = folder / "package"
    isolated.mkdir(exist_ok=True)
    link = isolated / "keeptune"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(keeptune.__file__).parent.resolve(), target_is_directory=True)
    return isolated.resolve()


def _free_port() -> int:
    """A TCP port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
