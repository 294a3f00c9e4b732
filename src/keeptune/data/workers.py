"""Runs the tasks of the data stage: in this process, in several processes on this machine, or on a Ray cluster.

All executors run the same functions over the same tasks and return the results in task order. So the choice of executor
changes the run time and nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from keeptune.errors import RunError
from keeptune.grading.graders.user_function import ALLOW_CODE

T = TypeVar("T")
R = TypeVar("R")

SMALL_INPUT_BYTES = 16_000_000
"""Smaller inputs are processed in this process, because starting other processes takes longer."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The requested workers: a Ray cluster at HOST:PORT, or local processes (0: chosen by the size of the input)."""

    processes: int = 0
    cluster: str | None = None


class Executor(Protocol):
    """Runs tasks in parallel."""

    @property
    def worker_count(self) -> int:
        """The number of tasks that run at the same time."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Yield the result of each task in order. `function` and the tasks must be picklable."""


class SerialExecutor:
    """Runs all tasks in this process, each when its result is requested."""

    worker_count = 1

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Yield the result of each task in order."""
        return map(function, tasks)


class ProcessExecutor:
    """Runs tasks in several processes on this machine."""

    def __init__(self, pool: ProcessPoolExecutor, worker_count: int) -> None:
        self.pool, self.worker_count = pool, worker_count

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Yield the result of each task in order.

        Raises:
            RunError: a process was killed, usually because memory ran out.
        """
        try:
            yield from self.pool.map(function, tasks)
        except BrokenProcessPool:
            raise RunError(
                "a process of the data stage was killed, most likely because memory ran out; free memory, or set "
                "--processes 1, and run again"
            ) from None


class RayExecutor:
    """Runs tasks on a Ray cluster. All nodes must see the input files and the run directory under the same paths."""

    def __init__(self, address: str, show_output: bool = False) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError:
            raise RunError("--cluster needs Ray; install it with: pip install 'keeptune[cluster]'") from None
        _require_reachable(address)
        # Workers run in processes of the cluster, which do not have the environment of this one.
        permission = {ALLOW_CODE: os.environ[ALLOW_CODE]} if ALLOW_CODE in os.environ else {}
        options = {"runtime_env": {"env_vars": permission}} if permission else {}
        try:
            self.ray.init(address=address, log_to_driver=show_output, configure_logging=False, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RunError(
                f"--cluster {address}: cannot connect to a Ray cluster ({error}); check that it is running"
            ) from None
        self.worker_count = max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Yield the result of each task in order. Errors of the function are raised as if it had run locally.

        Raises:
            RunError: the cluster failed.
        """
        remote = self.ray.remote(function)
        for pending in [remote.remote(task) for task in tasks]:
            try:
                yield self.ray.get(pending)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.RayError as error:
                raise RunError(f"the Ray cluster failed to run a task ({error}); see the cluster's logs") from None

    def close(self) -> None:
        """Disconnect from the cluster, which continues to run."""
        self.ray.shutdown()


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Disable the cyclic garbage collector inside the `with` block.

    Rows contain no reference cycles, and searching millions of them took a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def available_cpu_count() -> int:
    """Return the number of CPUs that this process may use.

    `os.process_cpu_count` exists since Python 3.13 and `os.sched_getaffinity` not on macOS and Windows. Where both are
    missing, the CPUs of the machine are counted.
    """
    if process_cpu_count := getattr(os, "process_cpu_count", None):
        return int(process_cpu_count() or 1)
    if sched_getaffinity := getattr(os, "sched_getaffinity", None):
        return len(sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_reachable(address: str) -> None:
    """Check that host:port accepts connections. Ray itself would wait for minutes.

    Raises:
        RunError: the address is malformed or does not answer.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RunError(
            f"--cluster {address}: cannot connect to a Ray cluster ({error}); provide its address as HOST:PORT"
        ) from None


@contextmanager
def open_executor(input_bytes: int, config: WorkerConfig) -> Iterator[Executor]:
    """Open an executor for an input of this size. It is closed at the end of the `with` block.

    Raises:
        RunError: the Ray cluster does not answer.
    """
    if config.cluster is not None:
        cluster = RayExecutor(config.cluster)
        try:
            yield cluster
        finally:
            cluster.close()
        return
    worker_count = config.processes or (1 if input_bytes < SMALL_INPUT_BYTES else available_cpu_count())
    if worker_count == 1:
        yield SerialExecutor()
        return
    # A forked child could inherit a lock that a thread of torch or of the tokenizer holds.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(worker_count, spawn, initializer=_end_with_parent, initargs=(os.getpid(),))
    try:
        yield ProcessExecutor(pool, worker_count)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when its parent ends (sys/prctl.h)."""


def _end_with_parent(parent: int) -> None:
    """Make this worker end when its parent is killed, which leaves the parent no time to end it. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
