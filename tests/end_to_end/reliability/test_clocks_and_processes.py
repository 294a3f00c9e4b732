"""A clock that goes backwards, two commands in one folder, and a process of several that is killed."""

import json
import os
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from end_to_end.command import assert_same_bytes, ended, files, logged_steps, ok, process, refused, wait_until
from end_to_end.conftest import MakeRecipe
from end_to_end.reliability.forked import keeptune
from end_to_end.test_processes import port as port

from keeptune.pipeline.run_lock import run_lock


@pytest.mark.slow
def test_a_clock_that_goes_backwards(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run, now = tmp_path / "run", time.time()

    def turn_back() -> None:
        calls = iter(range(1, 10**9))
        time.time = lambda: now - 1_000.0 * next(calls)  # type: ignore[assignment]
        time.time_ns = lambda: int(time.time() * 10**9)  # type: ignore[assignment]

    done = keeptune("run", recipe, "--run", run, watched=run, prepare=turn_back)
    assert done.code in (0, 4), done.text
    assert_same_bytes(run, finished)
    cost = json.loads((run / "result.json").read_text(encoding="utf-8"))["cost"]
    assert cost["seconds"] > 0 and min(cost["seconds_by_stage"].values()) >= 0
    ok("verify", run)


def test_two_commands_in_one_folder(finished: Path, squad: Path, model_folder: Path, tmp_path: Path) -> None:
    """Two commands would mix their answers."""
    out, run = tmp_path / "out", Path(shutil.copytree(finished, tmp_path / "run"))
    gate = ["gate", "--base", model_folder, "--tuned", run, "--abilities", "grammar", "--suite", "quick"]
    with run_lock(out), run_lock(run):
        for command in (["score", run, "--retained", squad, "--out", out], [*gate, "--out", out], ["report", run]):
            assert "another process" in refused(2, *command)
    assert not any(out.iterdir())


@pytest.mark.slow
def test_one_of_two_processes_is_killed(make_recipe: MakeRecipe, port: int, tmp_path: Path) -> None:
    """The other one ends with a message, and the run goes on from its last checkpoint."""
    run = tmp_path / "run"
    recipe = make_recipe(train={"epochs": 60, "score_every_steps": 0})
    shared: dict[str, Any] = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as stack:
        started = []
        for number in ("0", "1"):
            with mock.patch.dict(os.environ, {**shared, "RANK": number}):
                started.append(stack.enter_context(process("run", recipe, "--run", run)))
        wait_until(lambda: logged_steps(run) >= 9, started[0])
        started[1].send_signal(signal.SIGKILL)
        first = ended(started[0])
    assert first.code == 2, first
    assert "another process" in first.err and "Traceback" not in first.err
    steps = logged_steps(run)
    with process("run", recipe, "--run", run) as again:
        wait_until(lambda: logged_steps(run) > steps, again)


@pytest.mark.slow
def test_a_killed_server_leaves_the_run_as_it_was(points: Any, record: Any, finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before, count = files(run), max(2, points(2) // 20)
    for number in range(count):
        with process("serve", run, "--port", 0) as running:
            assert running.stderr is not None
            assert any("serving on" in line for line in running.stderr)
            time.sleep(0.1 * number)
            running.send_signal(signal.SIGKILL)
            assert ended(running).code == -signal.SIGKILL
        assert files(run) == before
    ok("verify", run)
    record(points=count, unchanged=count)
