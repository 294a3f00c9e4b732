"""Runs as processes: real commands, their output, and refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving.studio.client import Client, client_of
from serving.studio.conftest import RUN

from keeptune.serving.api_error import ApiError
from keeptune.serving.studio.jobs import Jobs

PATIENCE_SECONDS = 60


def wait_until(happened: Callable[[], bool]) -> None:
    last = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.01)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a misspelled key, so that its run fails at once."""
    path = tmp_path / "broken.yaml"
    path.write_text("data: {skil: text, files: [rows.jsonl]}\n", encoding="utf-8")
    return path


@pytest.fixture
def client(folder: Path, recipe: Path) -> Iterator[Client]:
    with client_of(folder, recipes=(recipe,)) as client:
        yield client


def test_a_failed_command_says_why(client: Client) -> None:
    assert client.post("/api/start", {"recipe": "broken.yaml", "name": "new"}) == {"run": "new"}
    wait_until(lambda: not client.get("/api/output", run="new")["is_running"])
    state = client.get("/api/output", run="new")
    assert state["exit_code"] == 2
    assert "data.skil" in state["output"]


@pytest.mark.parametrize(
    ("name", "status"), [("../outside", 400), ("a/b", 400), ("", 400), ("-x", 400), (".hidden", 400), (RUN, 409)]
)
def test_names_of_new_runs_are_plain_and_free(client: Client, name: str, status: int) -> None:
    client.post_refused("/api/start", {"recipe": "broken.yaml", "name": name}, status)


def test_only_recipes_of_the_command_line_are_started(client: Client, recipe: Path) -> None:
    assert "--recipe" in client.post_refused("/api/start", {"recipe": str(recipe), "name": "new"}, 404)


def test_a_run_that_was_not_started_here_is_not_stopped(client: Client) -> None:
    assert "Ctrl+C" in client.post_refused("/api/stop", {"run": RUN}, 409)


def test_a_job_is_stopped_by_sigint_and_not_started_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marker = tmp_path / "interrupted"
    program = tmp_path / "keeptune.py"  # stands for the package, because `python -m keeptune` finds it first
    program.write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have started all with it ignored
        "try:\n    print('ready \\x1b[31m', flush=True)\n    time.sleep(600)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(marker)!r}).touch()\n    raise SystemExit(5)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    jobs = Jobs()
    for _ in range(2):  # a run can be resumed after its process has ended
        jobs.start("run", [])
        wait_until(lambda: "ready" in jobs.output("run"))
        with pytest.raises(ApiError, match="already"):
            jobs.start("run", [])
        jobs.stop("run")
        wait_until(lambda: not jobs.is_running("run"))
        assert (jobs.exit_code("run"), marker.exists()) == (5, True)
        assert "\\x1b[31m" in jobs.output("run")
    jobs.start("run", [])
    wait_until(lambda: "ready" in jobs.output("run"))
    jobs.stop_all()
    assert jobs.exit_code("run") == 5
