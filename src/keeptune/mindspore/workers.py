"""The processes of the MindSpore engine: how they are started and found, asked, and let go.

Each is a Python with MindSpore that runs keeptune/mindspore/engine.py. Several of them take a step together; they are
started as `msrun` starts them on one machine, with a scheduler through which they find each other.
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
from keeptune.subprocess_rpc import Ending, OtherPython, ended, has_package, started

PYTHON = "KEEPTUNE_MINDSPORE_PYTHON"
"""The environment variable that names the Python with MindSpore in it."""

WORKERS = "KEEPTUNE_MINDSPORE_WORKERS"
"""The environment variable that says how many processes of it train together, one a card."""

_USUAL_PYTHON = Path(".venv-mindspore/bin/python")
_SCHEDULER = "from mindspore.communication import init; init()"
_LOG = "mindspore.log"
_ENDING = Ending(
    "MindSpore",
    ", as a system ends what takes too much memory. Every width of rows (64, 128, 256 …) is a graph that stays; "
    "teach rows of fewer lengths (data.max_tokens), or train where more memory is free. What was saved is gone on with",
    TrainingError,
)


class Workers:
    """So many processes as the environment asks for, once they are started.

    errors: RecipeError when no Python with MindSpore is known, or the number is none.
    """

    def __init__(self) -> None:
        self.python, self.count = python_with_mindspore(), _count()
        self._started: list[OtherPython] = []
        self._scheduler: subprocess.Popen[str] | None = None

    def start(self, folder: Path) -> None:
        """Starts all, and returns when they have read the job in `folder` and are ready.

        errors: TrainingError when one ends instead.
        """
        log, python = folder / _LOG, str(self.python)
        common = {"PYTHONPATH": str(_package_alone(folder)), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        cluster = {"MS_WORKER_NUM": str(self.count), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(_open_port())}
        if self.count > 1:
            self._scheduler = started([python, "-c", _SCHEDULER], log, {**common, **cluster, "MS_ROLE": "MS_SCHED"})
        for number in range(self.count):
            joined = {**cluster, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(number), "DEVICE_ID": str(number)}
            environment = {**common, **(joined if self.count > 1 else {})}
            command = [python, "-m", "keeptune.mindspore.engine", str(folder)]
            self._started.append(OtherPython.start(command, log, environment, _ENDING))
        for worker in self._started:
            worker.answer()

    def ask(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to a request for each process, or for the first ones.

        errors: TrainingError when one has ended, with the last that it said.
        """
        asked = self._started[: len(requests)]
        for worker, request in zip(asked, requests, strict=True):
            worker.tell(request)
        return [worker.answer() for worker in asked]

    def end(self) -> bool:
        """Lets them go; whether all ended as they should."""
        codes = [worker.end() for worker in self._started]
        if self._scheduler is not None:
            codes.append(ended(self._scheduler))
        return not any(codes)


def python_with_mindspore() -> Path:
    """The Python that trains. errors: RecipeError when there is none, or MindSpore is not in it."""
    found = Path(os.environ.get(PYTHON, _USUAL_PYTHON))
    if not has_package(found, "mindspore"):
        raise RecipeError(
            f"engine: mindspore needs a Python with MindSpore, and {found} is none; `make setup-mindspore` makes "
            f"{_USUAL_PYTHON}, or name another in {PYTHON}"
        )
    return found.absolute()


def _count() -> int:
    given = os.environ.get(WORKERS, "1")
    if not given.isdecimal() or int(given) == 0:
        raise RecipeError(f"{WORKERS} is {given!r}; it is how many processes of MindSpore train together, such as 4")
    return int(given)


def _package_alone(folder: Path) -> Path:
    """A folder with nothing but keeptune in it: installed, it stands among packages that are not MindSpore's."""
    alone = folder / "package"
    alone.mkdir(exist_ok=True)
    link = alone / "keeptune"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(keeptune.__file__).parent.resolve(), target_is_directory=True)
    return alone.resolve()


def _open_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
