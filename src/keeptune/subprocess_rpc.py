"""A process of another Python, for packages whose pins exclude keeptune's own: lines of JSON go in and come out."""

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

_LAST_WORDS = 2000
_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Ending:
    """What is said where a process ends that should not: its name, what being killed means, and the error."""

    name: str
    killed: str
    error: type[KeeptuneError]


@dataclass(slots=True)
class OtherPython:
    """One process that answers."""

    process: subprocess.Popen[str]
    answers: TextIO
    log: Path
    ending: Ending

    @classmethod
    def start(cls, command: Sequence[str], log: Path, environment: Mapping[str, str], ending: Ending) -> OtherPython:
        """Starts a command, whose last argument will be the file descriptor that it has to write its answers to."""
        answers, given = os.pipe()
        process = started([*command, str(given)], log, environment, pass_on=[given])
        os.close(given)
        return cls(process, os.fdopen(answers, encoding="utf-8"), log, ending)

    def tell(self, request: Any) -> None:
        """Sends a request. Of a process that has ended, `answer` tells."""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        """The next answer. errors: as `ending` says, when the process has ended instead, with the last that it said."""
        line = self.answers.readline()
        if not line:
            code = self.process.wait()
            said = self.log.read_text(encoding="utf-8", errors="replace").strip()
            told = self.ending.killed if code == -signal.SIGKILL else f"; its last words:\n{said[-_LAST_WORDS:]}"
            raise self.ending.error(f"{self.ending.name} ended with code {code}{told}")
        return json.loads(line)

    def end(self) -> int:
        """Its exit code, after it has seen the end of its input."""
        code = ended(self.process)
        self.answers.close()
        return code


def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str], pass_on: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """A process; what it says is added to the log."""
    with log.open("ab") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env={**os.environ, **environment},
            pass_fds=pass_on,
            text=True,
            # In a session of its own: Ctrl-C is for the process that asks, which stops where it can go on later.
            start_new_session=True,
        )


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process whose input ends; one that waits in vain for another, which has ended, is killed."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def has_package(python: Path, package: str) -> bool:
    """Whether this is a Python that can import the package."""
    look = f"import sys; from importlib.util import find_spec; sys.exit(find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", look], check=False).returncode == 0
    except OSError:
        return False
