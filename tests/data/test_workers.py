"""All executors return the same results in task order and raise the errors of the tasks."""

import os
import subprocess
import sys
import time
from operator import neg
from pathlib import Path

import pytest

from keeptune.data.sources import resolve_sources
from keeptune.data.workers import (
    SMALL_INPUT_BYTES,
    ProcessExecutor,
    SerialExecutor,
    WorkerConfig,
    available_cpu_count,
    open_executor,
)
from keeptune.errors import DataError, RunError


def test_small_inputs_are_processed_in_this_process() -> None:
    with open_executor(SMALL_INPUT_BYTES - 1, WorkerConfig()) as executor:
        assert isinstance(executor, SerialExecutor)
        assert list(executor.map(neg, [3, 1, 2])) == [-3, -1, -2]
    with open_executor(10 * SMALL_INPUT_BYTES, WorkerConfig(processes=1)) as executor:
        assert isinstance(executor, SerialExecutor)


def test_processes_preserve_order_and_errors() -> None:
    with open_executor(0, WorkerConfig(processes=2)) as executor:
        assert isinstance(executor, ProcessExecutor)
        assert executor.worker_count == 2
        assert list(executor.map(neg, range(20))) == list(range(0, -20, -1))
        with pytest.raises(DataError, match="no-such-file"):
            list(executor.map(resolve_sources, [("no-such-file",)]))


def test_the_cpu_count_works_without_affinity_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("process_cpu_count", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert available_cpu_count() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpu_count() == 1
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    assert available_cpu_count() == 2


def test_a_killed_process_raises_an_error_with_advice() -> None:
    with open_executor(0, WorkerConfig(processes=2)) as executor, pytest.raises(RunError, match="--processes 1"):
        list(executor.map(os._exit, [9]))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_a_cluster_needs_ray_and_an_address(address: str) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        reason = r"keeptune\[cluster\]"
    else:
        reason = "cannot connect to a Ray"
    with pytest.raises(RunError, match=reason), open_executor(0, WorkerConfig(cluster=address)):
        pass


PARENT = """
import os, signal
from time import sleep
from keeptune.data.workers import WorkerConfig, open_executor

if __name__ == "__main__":
    with open_executor(0, WorkerConfig(processes=2)) as executor:
        print(*executor.map(os.getsid, [0, 0]), flush=True)
        print(*executor.pool._processes, flush=True)
        next(executor.map(sleep, [60]))
"""


def is_running(process: int) -> bool:
    """Whether a process exists and is no zombie, which waits only for its parent to ask for its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="uses prctl")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(PARENT, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = [int(process) for process in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        parent.kill()
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "a worker survived its parent"
        time.sleep(0.02)
