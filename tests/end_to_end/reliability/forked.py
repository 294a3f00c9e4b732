"""`keeptune` in a forked process: as real as a new one, but without loading torch again, so hundreds are affordable."""

import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from keeptune import cli

PATIENCE_SECONDS = 300

_CHANGES = frozenset({"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"})
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code or the negative number of its signal, and what it wrote to both streams."""

    code: int
    text: str
    seconds: float
    changes: int
    """The file-system changes below the watched folder that it was about to make."""


def keeptune(
    *arguments: object,
    watched: Path,
    at_change: Callable[[int], object] = abs,
    prepare: Callable[[], object] = lambda: None,
    kill_after_seconds: float | None = None,
) -> Ended:
    """Runs `keeptune ARGUMENTS` in a forked process and waits for its end.

    Args:
        arguments: the command line.
        watched: the folder whose changes are counted.
        at_change: called before each change with its number, from 1. The default does nothing.
        prepare: called in the new process before the command.
        kill_after_seconds: when the process gets SIGKILL, if it still runs.
    """
    output, counter = os.pipe(), os.pipe()
    started = time.monotonic()
    child = fork()
    if child == 0:
        _run(list(map(str, arguments)), output[1], counter[1], watched, at_change, prepare)
    for end in (output[1], counter[1]):
        os.close(end)
    limit = PATIENCE_SECONDS if kill_after_seconds is None else kill_after_seconds
    text, status = _wait(child, output[0], started + limit)
    changes = len(_read_all(counter[0]))
    if kill_after_seconds is None and status == -signal.SIGKILL and time.monotonic() - started > PATIENCE_SECONDS:
        raise AssertionError(f"keeptune {arguments} did not end: {text[-2000:]}")
    return Ended(status, text, time.monotonic() - started, changes)


def fork() -> int:
    """As os.fork. Python 3.12 warns where there are threads; those of finished tests hold no lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _wait(child: int, output: int, kill_at: float) -> tuple[str, int]:
    os.set_blocking(output, False)
    parts: list[bytes] = []
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and time.monotonic() >= kill_at:
            os.kill(child, signal.SIGKILL)
            kill_at = float("inf")
        try:
            while part := os.read(output, 1 << 16):
                parts.append(part)
        except BlockingIOError:
            pass
        if ended:
            os.close(output)
            return b"".join(parts).decode(errors="replace"), os.waitstatus_to_exitcode(status)
        time.sleep(0.002)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _run(
    arguments: list[str],
    output: int,
    counter: int,
    watched: Path,
    at_change: Callable[[int], object],
    prepare: Callable[[], object],
) -> NoReturn:
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        prepare()
        _watch(watched, counter, at_change)
        sys.argv = ["keeptune", *arguments]
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _watch(folder: Path, counter: int, at_change: Callable[[int], object]) -> None:
    root, number = str(folder), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & _WRITE_FLAGS and str(path).startswith(root)):
                return
        elif event not in _CHANGES or not any(str(one).startswith(root) for one in arguments):
            return
        number += 1
        os.write(counter, b".")
        at_change(number)

    sys.addaudithook(hook)


def kill_at(change: int) -> Callable[[int], object]:
    """Ends the process with SIGKILL before this change."""
    return lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == change else None


def send_at(change: int, number: int) -> Callable[[int], object]:
    """Sends a signal to the process before this change."""
    return lambda current: os.kill(os.getpid(), number) if current == change else None


def limit_files(size: int, is_fatal: bool) -> Callable[[], None]:
    """No file of the process may exceed this number of bytes. A write beyond ends the process, or is an error."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if is_fatal else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return prepare


def log_uniform(draw: random.Random, low: int, high: int) -> int:
    """A random number whose logarithm is uniform."""
    return round(low * (high / low) ** draw.random())
