"""A run that the page starts, stops and resumes ends as one that the command line carries out."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from end_to_end.command import assert_same_bytes, logged_steps

pytest.importorskip("fastapi", reason="pip install 'keeptune[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'keeptune[serve]'")

from serving.studio.client import Client, client_of

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 240
ATTEMPTS = 5


def wait_until(happened: Callable[[], bool]) -> None:
    last = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.002)


def is_running(client: Client, name: str) -> bool:
    return bool(client.get("/api/output", run=name)["is_running"])


def start_and_stop(client: Client, recipe: str, folder: Path) -> str:
    """The name of a run that was stopped during its training."""
    for attempt in range(ATTEMPTS):
        name = f"run-{attempt}"
        client.post("/api/start", {"recipe": recipe, "name": name})
        wait_until(lambda name=name: logged_steps(folder / name) >= 3 or not is_running(client, name))
        client.post("/api/stop", {"run": name})
        wait_until(lambda name=name: not is_running(client, name))
        if not (folder / name / "checkpoints" / "trained.json").exists():
            return name
    pytest.fail("the runs always ended before they were stopped")


def test_a_run_is_started_stopped_and_resumed_from_the_page(recipe: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with client_of(folder, recipes=(recipe,)) as client:
        name = start_and_stop(client, recipe.name, folder)
        stopped = client.get("/api/progress", run=name)
        assert stopped["exit_code"] == 5, stopped["output"]
        assert (stopped["is_running"], stopped["stage"]) == (False, "train")
        client.post("/api/resume", {"run": name})
        wait_until(lambda: not is_running(client, name))
        ended = client.get("/api/progress", run=name)
        assert ended["exit_code"] in (0, 4), ended["output"]
        assert ended["stage"] == "finished"
        result = json.loads((folder / name / "result.json").read_text(encoding="utf-8"))
        assert client.get("/api/answers/summary", run=name)["sources"][0]["n"] == result["skill"]["tuned"]["n"]
    assert_same_bytes(folder / name, finished)
