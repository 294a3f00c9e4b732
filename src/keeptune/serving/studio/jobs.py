"""Runs that the page has started: each is a `keeptune` command in a process, stopped by SIGINT as by Ctrl+C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from keeptune.errors import RunError
from keeptune.progress import printable
from keeptune.serving.api_error import ApiError

OUTPUT_BYTES = 2**15
"""How much of the end of a command's output is shown."""

STOP_SECONDS = 60.0
"""The time that a run has to save a checkpoint when the studio ends."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command in a process, and the file that takes its output."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]


class Jobs:
    """The processes of runs by their id. Threads may share it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, run: str, arguments: Sequence[str]) -> None:
        """Starts `keeptune ARGUMENTS` for a run.

        Raises:
            ApiError: a process for this run exists already.
            RunError: the process cannot be started.
        """
        with self._lock:
            if self.is_running(run):
                raise ApiError(409, f"{run} is running already", code="already_running")
            output = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the next job of the run, or the process)
            try:
                # In a new session, so that Ctrl+C in the terminal of the studio does not reach it a second time.
                process = subprocess.Popen(
                    [sys.executable, "-m", "keeptune", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                output.close()
                raise RunError(f"keeptune {arguments[0]}: cannot be started ({error.strerror})") from None
            if previous := self._jobs.get(run):
                previous.output.close()
            self._jobs[run] = Job(process, output)

    def stop(self, run: str) -> None:
        """Asks the process of a run to save and end. It does so after the current step.

        Raises:
            ApiError: this studio has not started the run, or it has ended.
        """
        if not self.is_running(run):
            raise ApiError(
                409,
                f"{run} was not started from this page or has ended; press Ctrl+C in the terminal that runs it",
                code="not_running",
            )
        self._jobs[run].process.send_signal(signal.SIGINT)

    def is_running(self, run: str) -> bool:
        """Whether a process of a run has not ended."""
        job = self._jobs.get(run)
        return job is not None and job.process.poll() is None

    def exit_code(self, run: str) -> int | None:
        """The exit code of the last process of a run; None if it has not ended, or if there was none."""
        job = self._jobs.get(run)
        return None if job is None else job.process.poll()

    def output(self, run: str) -> str:
        """The end of what the last process of a run has printed; empty if there was none."""
        job = self._jobs.get(run)
        if job is None:
            return ""
        descriptor = job.output.fileno()
        start = max(0, os.fstat(descriptor).st_size - OUTPUT_BYTES)
        return printable(os.pread(descriptor, OUTPUT_BYTES, start).decode(errors="replace"))

    def stop_all(self) -> None:
        """Stops all processes and waits until they have saved, at most STOP_SECONDS each."""
        running = [job for run, job in self._jobs.items() if self.is_running(run)]
        for job in running:
            job.process.send_signal(signal.SIGINT)
        for job in running:
            try:
                job.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                job.process.kill()
        for job in self._jobs.values():
            job.output.close()
