"""The processes of the MindSpore engine: how they are started and found, asked, and let go.

Each is a Python with MindSpore that runs keeptune/mindspore/engine.py. Several of them take a step together; they are
started as `msrun` starts them on one machine, with a scheduler through which they find each other.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import keeptune
from keeptune.errors import RecipeError, TrainingError

PYTHON = "KEEPTUNE_MINDSPORE_PYTHON"
"""The environment variable that names the Python with MindSpore in it."""

WORKERS = "KEEPTUNE_MINDSPORE_WORKERS"
"""The environment variable that says how many processes of it train together, one a card."""

_USUAL_PYTHON = Path(".venv-mindspore/bin/python")
_LOOK = "import sys; from importlib.util import find_spec; sys.exit(find_spec('mindspore') is None)"
_SCHEDULER = "from mindspore.communication import init; init()"
_LOG = "mindspore.log"
_LAST_WORDS = 2000
_PATIENCE_SECONDS = 60
_KILLED = (
    ", as a system ends what takes too much memory. Every width of rows (64, 128, 256 …) is a graph that stays; "
    "teach rows of fewer lengths (data.max_tokens), or train where more memory is free. What was saved is gone on with"
)


class Workers:
    """So many processes as the environment asks for, once they are started.

    errors: RecipeError when no Python with MindSpore is known, or the number is none.
    """

    def __init__(self) -> None:
        self.python, self.count = python_with_mindspore(), _count()
        self._started: list[_Worker] = []
        self._scheduler: subprocess.Popen[str] | None = None

    def start(self, folder: Path) -> None:
        """Starts all, and returns when they have read the job in `folder` and are ready.

        errors: TrainingError when one ends instead.
        """
        cluster = {"MS_WORKER_NUM": str(self.count), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(_open_port())}
        if self.count > 1:
            self._scheduler = self._process(folder, ["-c", _SCHEDULER], {**cluster, "MS_ROLE": "MS_SCHED"})
        for number in range(self.count):
            joined = {**cluster, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(number), "DEVICE_ID": str(number)}
            self._started.append(self._worker(folder, joined if self.count > 1 else {}))
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
            codes.append(_ended(self._scheduler))
        return not any(codes)

    def _worker(self, folder: Path, joined: dict[str, str]) -> _Worker:
        answers, given = os.pipe()
        module = ["-m", "keeptune.mindspore.engine", str(folder), str(given)]
        process = self._process(folder, module, joined, pass_on=[given])
        os.close(given)
        return _Worker(process, os.fdopen(answers, encoding="utf-8"), folder / _LOG)

    def _process(
        self, folder: Path, arguments: list[str], joined: dict[str, str], pass_on: Sequence[int] = ()
    ) -> subprocess.Popen[str]:
        """A process of the Python with MindSpore; what it says is added to the log."""
        package = str(Path(keeptune.__file__).parents[1])
        environment = {
            **os.environ,
            **joined,
            "PYTHONPATH": package,
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        }
        with (folder / _LOG).open("ab") as log:
            return subprocess.Popen(
                [str(self.python), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=pass_on,
                text=True,
                # In a session of its own: Ctrl-C is for the process that asks, which stops between two steps.
                start_new_session=True,
            )


@dataclass(slots=True)
class _Worker:
    """One process: lines of JSON in and out."""

    process: subprocess.Popen[str]
    answers: TextIO
    log: Path

    def tell(self, request: dict[str, Any]) -> None:
        """Sends a request. Of a process that has ended, `answer` tells."""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """The next answer. errors: TrainingError when the process has ended instead."""
        line = self.answers.readline()
        if not line:
            code = self.process.wait()
            said = self.log.read_text(encoding="utf-8", errors="replace").strip()
            told = _KILLED if code == -signal.SIGKILL else f"; its last words:\n{said[-_LAST_WORDS:]}"
            raise TrainingError(f"MindSpore ended with code {code}{told}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> int:
        """Its exit code, after it has seen the end of its input."""
        code = _ended(self.process)
        self.answers.close()
        return code


def _ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process whose input ends; one that waits in vain for another, which has ended, is killed."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def python_with_mindspore() -> Path:
    """The Python that trains. errors: RecipeError when there is none, or MindSpore is not in it."""
    found = Path(os.environ.get(PYTHON, _USUAL_PYTHON))
    if shutil.which(found) is None or subprocess.run([found, "-c", _LOOK], check=False).returncode:
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


def _open_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
