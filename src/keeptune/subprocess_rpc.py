"""Runs a worker in another Python and exchanges lines of JSON with it.

For packages whose pinned dependencies exclude keeptune's own, such as MindSpore and vLLM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from keeptune.errors import KeeptuneError

_LOG_TAIL_CHARACTERS = 2000
_EXIT_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class ExitError:
    """Describes a worker that exits too early: its name, the advice if it was killed, and the error to raise."""

    name: str
    killed_advice: str
    error: type[KeeptuneError]


@dataclass(slots=True)
class JsonLinesSubprocess:
    """A worker process: one line of JSON per request and per answer."""

    process: subprocess.Popen[str]
    answers: TextIO
    log: Path
    exit_error: ExitError

    @classmethod
    def start(
        cls, command: Sequence[str], log: Path, environment: Mapping[str, str], exit_error: ExitError
    ) -> JsonLinesSubprocess:
        """Starts a command. Its last argument becomes the file descriptor to which it must write its answers."""
        read_end, write_end = os.pipe()
        process = start_process([*command, str(write_end)], log, environment, pass_fds=[write_end])
        os.close(write_end)
        return cls(process, os.fdopen(read_end, encoding="utf-8"), log, exit_error)

    def send(self, request: Any) -> None:
        """Sends a request. If the worker has exited, the next `receive` raises the error."""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)

    def receive(self) -> Any:
        """Waits for the next answer.

        Raises:
            KeeptuneError: `exit_error.error` with the end of the log, when the worker has exited instead.
        """
        line = self.answers.readline()
        if not line:
            code = self.process.wait()
            log = self.log.read_text(encoding="utf-8", errors="replace").strip()
            was_killed = code == -signal.SIGKILL
            details = self.exit_error.killed_advice if was_killed else f"end of its log:\n{log[-_LOG_TAIL_CHARACTERS:]}"
            raise self.exit_error.error(f"{self.exit_error.name} exited with code {code}; {details}")
        return json.loads(line)

    def close(self) -> int:
        """Closes the worker's input, waits until it exits, and returns its exit code."""
        code = stop_process(self.process)
        self.answers.close()
        return code


def start_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """Starts a process whose output is appended to the log. `environment` is added to the current environment."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            pass_fds=pass_fds,
            text=True,
            # A new session keeps Ctrl-C from the worker: the calling process handles it and stops where it can resume.
            start_new_session=True,
        )


def stop_process(process: subprocess.Popen[str]) -> int:
    """Closes a process's input and returns its exit code. A process that does not exit within 60 s is killed."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(_EXIT_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def has_package(python: Path, package: str) -> bool:
    """Whether `python` is a Python interpreter that can import the package."""
    code = f"import sys; from importlib.util import find_spec; sys.exit(find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], check=False).returncode == 0
    except OSError:
        return False
