"""Several processes do one job: started by torchrun or accelerate, they train together, and one of them writes."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from end_to_end.command import ended, files, logged_steps, ok, process, wait_until
from end_to_end.conftest import MakeRecipe
from safetensors.torch import load

from keeptune.training import checkpoints

PATIENCE_SECONDS = 600
LAUNCHERS = {
    "torchrun": "torch.distributed.run --standalone --nproc-per-node 2 -m --",
    # Of a machine with processors alone: `--cpu` would start one process, and `--multi_gpu` is how two are asked for.
    "accelerate": "accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0 -m",
}


def events(run: Path) -> list[tuple[str, int]]:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(event["event"], event["step"]) for event in map(json.loads, lines) if "step" in event]


def figures(run: Path) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    skill, retained = (result[name]["tuned"] for name in ("skill", "retained"))
    kept = {name: retained[name] for name in ("f1", "em", "n", "empty")}
    return {"skill": skill, **kept, "chosen": result["chosen"]["checkpoint"]}


def assert_same_but_for_rounding(run: Path, finished: Path) -> None:
    """Fails unless a run of several processes came to what one process came to."""
    own, its = files(run), files(finished)
    assert own.keys() == its.keys()
    assert all(own[name] == its[name] for name in its if name.startswith("data/"))
    assert events(run) == events(finished)
    adapter, its_adapter = (load(made["adapter/adapter_model.safetensors"]) for made in (own, its))
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, its_adapter[name], atol=1e-5, rtol=1e-5)
    assert figures(run) == figures(finished)


def by_two(launcher: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command of keeptune of which a launcher starts two processes, and what it prints."""
    command = [sys.executable, "-m", *LAUNCHERS[launcher].split(), "keeptune", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_torchrun_does_the_whole_job(make_recipe: MakeRecipe, finished: Path, tmp_path: Path) -> None:
    """On a divided base, which asks the most of it: the model is gathered for scores and loaded anew at the end."""
    run = tmp_path / "run"
    told = by_two("torchrun", "run", make_recipe(train={"shard": True}), "--run", run)
    assert told.stdout.count("verdict") == 1
    assert_same_but_for_rounding(run, finished)


@pytest.mark.slow
def test_accelerate_starts_them_too(make_recipe: MakeRecipe, finished: Path, tmp_path: Path) -> None:
    told = by_two("accelerate", "run", make_recipe(), "--run", tmp_path / "run")
    assert told.stderr.count("2 processes train together") == 1
    assert_same_but_for_rounding(tmp_path / "run", finished)


def test_two_processes_answer_what_one_does(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked.jsonl"
    rows = [{"problem": f"计算 {n}.50 + 7.25 等于多少？", "solution": f"{n + 7}.75"} for n in range(10, 15)]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = []
    for who, start in (
        ("one", lambda *given: ok(*given).out),
        ("two", lambda *given: by_two("torchrun", *given).stdout),
    ):
        monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / who))  # or the second would be told what the first was
        target = (finished, "--skill", asked, "--retained", "embedded", "--limit", "7", "--out", tmp_path / who)
        told.append(json.loads(start("score", *target, "--json")))
    assert told[0] == told[1]
    for name in ("skill.jsonl", "retained.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_one_of_them_terminated_all_stop_with_exit_code_5(make_recipe: MakeRecipe, port: int, tmp_path: Path) -> None:
    """Started as a launcher does it, with the same four variables: so each one's own exit code is seen."""
    run = tmp_path / "run"
    recipe = make_recipe(train={"epochs": 60, "score_every_steps": 0})
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as stack:
        started = []
        for number in ("0", "1"):
            with mock.patch.dict(os.environ, {**shared, "RANK": number}):
                started.append(stack.enter_context(process("run", recipe, "--run", run)))
        wait_until(lambda: logged_steps(run) >= 5, started[0])
        started[1].send_signal(signal.SIGTERM)
        outcomes = [ended(running) for running in started]
    assert [outcome.code for outcome in outcomes] == [5, 5], outcomes
    assert "keeptune: stopped" in outcomes[0].err
    assert "keeptune (process 1): stopped" in outcomes[1].err
    assert all("Traceback" not in outcome.err for outcome in outcomes)
    newest = checkpoints.latest(run / "checkpoints")
    assert newest is not None and newest.name == f"step-{logged_steps(run)}"
    assert not (run / "checkpoints" / "trained.json").exists()
