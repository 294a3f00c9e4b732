"""Whoever does the work, the results are the same and in order, and an error is the task's own."""

import os
from operator import neg

import pytest

from keeptune.data.sources import sources
from keeptune.data.workers import SMALL_INPUT_BYTES, Here, Processes, Staffing, workers
from keeptune.errors import DataError, RunError


def test_small_inputs_are_done_here() -> None:
    with workers(SMALL_INPUT_BYTES - 1, Staffing()) as staff:
        assert isinstance(staff, Here)
        assert list(staff.map(neg, [3, 1, 2])) == [-3, -1, -2]
    with workers(10 * SMALL_INPUT_BYTES, Staffing(processes=1)) as staff:
        assert isinstance(staff, Here)


def test_processes_keep_the_order_and_the_errors() -> None:
    with workers(0, Staffing(processes=2)) as staff:
        assert isinstance(staff, Processes)
        assert staff.count == 2
        assert list(staff.map(neg, range(20))) == list(range(0, -20, -1))
        with pytest.raises(DataError, match="no-such-file"):
            list(staff.map(sources, [("no-such-file",)]))


def test_a_killed_process_is_an_error_that_says_so() -> None:
    with workers(0, Staffing(processes=2)) as staff, pytest.raises(RunError, match="--processes 1"):
        list(staff.map(os._exit, [9]))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_a_cluster_needs_ray_and_an_address(address: str) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        reason = r"keeptune\[cluster\]"
    else:
        reason = "no Ray cluster answers there"
    with pytest.raises(RunError, match=reason), workers(0, Staffing(cluster=address)):
        pass
