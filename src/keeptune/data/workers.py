"""Where the data stage's work is done: in this process, in several on this machine, or on a Ray cluster.

All three run the same functions over the same tasks and give the results in the order of the tasks, so a choice of
workers changes the time that a stage takes and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from keeptune.errors import RunError

T = TypeVar("T")
R = TypeVar("R")

SMALL_INPUT_BYTES = 16_000_000
"""Less than this is done sooner in this process than others can be started."""


@dataclass(frozen=True, slots=True)
class Staffing:
    """Who is to do the work: a Ray cluster, or so many processes here (0: as many as pay)."""

    processes: int = 0
    cluster: str | None = None


class Workers(Protocol):
    """Something that does tasks side by side."""

    @property
    def count(self) -> int:
        """How many tasks are done at once."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """The result of each task, in their order. `function` and tasks are sent as pickles."""


class Here:
    """This process does all tasks."""

    count = 1

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """The result of each task, computed when it is asked for."""
        return map(function, tasks)


class Processes:
    """Several processes on this machine."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self.pool, self.count = pool, count

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """The result of each task. errors: RunError when a process dies, which is mostly for want of memory."""
        try:
            yield from self.pool.map(function, tasks)
        except BrokenProcessPool:
            raise RunError(
                "a process of the data stage was killed, most likely because memory ran out; free memory, or set "
                "--processes 1, and run again"
            ) from None


class Cluster:
    """The processes of a Ray cluster. All nodes must see the input files and the run directory under the same path."""

    def __init__(self, address: str, show_output: bool = False) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError:
            raise RunError("--cluster needs Ray; install it with: pip install 'keeptune[cluster]'") from None
        _knock(address)
        try:
            self.ray.init(address=address, log_to_driver=show_output, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RunError(f"--cluster {address}: no Ray cluster answers there ({error})") from None
        self.count = max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """The result of each task.

        errors: those of the function, as if it had run here; RunError when the cluster fails.
        """
        remote = self.ray.remote(function)
        for pending in [remote.remote(task) for task in tasks]:
            try:
                yield self.ray.get(pending)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.RayError as error:
                raise RunError(f"the Ray cluster could not do a task ({error}); see the cluster's own logs") from None

    def close(self) -> None:
        """Leaves the cluster, which goes on."""
        self.ray.shutdown()


@contextmanager
def without_collector() -> Iterator[None]:
    """While it lasts, nobody searches for reference cycles. Millions of rows make none, and the search through all
    that is held took a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _knock(address: str) -> None:
    """errors: RunError when nobody answers at host:port. Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RunError(f"--cluster {address}: no Ray cluster answers there ({error}); give HOST:PORT") from None


@contextmanager
def workers(input_bytes: int, staffing: Staffing) -> Iterator[Workers]:
    """Workers for an input of that size.

    errors: RunError when the cluster does not answer.
    """
    if staffing.cluster is not None:
        joined = Cluster(staffing.cluster)
        try:
            yield joined
        finally:
            joined.close()
        return
    count = staffing.processes or (1 if input_bytes < SMALL_INPUT_BYTES else len(os.sched_getaffinity(0)))
    if count == 1:
        yield Here()
        return
    # A forked child could inherit a lock that one of torch's or the tokenizer's threads holds.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield Processes(pool, count)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
