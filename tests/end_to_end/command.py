"""The command line as a user has it: called in this process, which is fast, or as a process of its own."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from keeptune import cli
from keeptune.training import checkpoints

_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON and nothing else."""
        return json.loads(self.out)


def keeptune(*arguments: object) -> Outcome:
    """The outcome of `keeptune ARGUMENTS`, called in this process; an exception that a user would see is raised."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    command_line = mock.patch.object(sys, "argv", ["keeptune", *map(str, arguments)])
    code: Any = 0
    with command_line, redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Outcome(code, out.getvalue(), err.getvalue())


def ok(*arguments: object) -> Outcome:
    """The outcome of a command that must not fail."""
    outcome = keeptune(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def refused(code: int, *arguments: object) -> str:
    """The one message of a command that must fail with this exit code, in one line, without the box around it."""
    outcome = keeptune(*arguments)
    assert outcome.code == code, f"exit {outcome.code}: {outcome.err}"
    assert outcome.out == ""
    assert outcome.err.count("keeptune: ") == 1 or "Usage: " in outcome.err, outcome.err
    return " ".join(outcome.err.partition("keeptune: ")[2].split() or outcome.err.replace("│", " ").split())


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A running `python -m keeptune ARGUMENTS`, killed at the end if it still runs."""
    command = [sys.executable, "-m", "keeptune", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def ended(running: subprocess.Popen[str]) -> Outcome:
    """The outcome of a process, once it has ended."""
    out, err = running.communicate(timeout=_PATIENCE_SECONDS)
    return Outcome(running.returncode, out, err)


def wait_until(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Returns as soon as something has happened in a process; fails if the process ends before."""
    last = time.monotonic() + _PATIENCE_SECONDS
    while not happened():
        assert running.poll() is None, f"ended too early: {ended(running)}"
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.002)


def records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def logged_steps(run: Path) -> int:
    """How many training steps a run's log tells of so far."""
    log = run / "log.jsonl"
    return log.read_text(encoding="utf-8").count('"event": "train"') if log.is_file() else 0


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes, but for a tracker's, whose names hold the time."""
    there = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in there.items() if not name.startswith("tracking/")}


def assert_same_bytes(run: Path, uninterrupted: Path) -> None:
    """Fails unless two runs hold the same data, adapter, answers, last checkpoint and figures, byte by byte."""
    own, whole = files(run), files(uninterrupted)
    same = [name for name in whole if name.startswith(("data/", "adapter/", "scores/", "recipe"))]
    assert len(same) == 15
    for name in same:
        assert own.get(name) == whole[name], name
    last = checkpoints.latest(uninterrupted / "checkpoints")
    assert last is not None
    for name in ("adapter_model.safetensors", "optimiser.safetensors"):
        assert own[f"checkpoints/{last.name}/{name}"] == whole[f"checkpoints/{last.name}/{name}"]
    figures = [json.loads(files_of["result.json"]) for files_of in (own, whole)]
    for result in figures:
        del result["finished"], result["cost"]
    assert figures[0] == figures[1]
