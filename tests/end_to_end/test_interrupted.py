"""A run that is stopped and started again ends in the same bytes as one that was left alone."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from end_to_end.command import (
    Outcome,
    assert_same_bytes,
    ended,
    files,
    keeptune,
    logged_steps,
    ok,
    process,
    refused,
    wait_until,
)
from end_to_end.conftest import MakeRecipe

from keeptune.files import file_sha256
from keeptune.training import checkpoints

ATTEMPTS = 5
SLOW_DATA = {"files": [], "synth": {"rows": 300_000}, "quota": {}, "fraction": 0.01}


def steps_and_scores(run: Path) -> list[tuple[str, int]]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(event["event"], event["step"]) for event in events if "step" in event]


def start_and_send(numbers: Sequence[int], recipe: Path, run: Path) -> Outcome:
    """The outcome of a run that gets these signals soon after its first checkpoint."""
    for _ in range(ATTEMPTS):
        with process("run", recipe, "--run", run) as running:
            wait_until(lambda: logged_steps(run) >= 5, running)
            for number in numbers:
                running.send_signal(number)
            outcome = ended(running)
        if not (run / "checkpoints" / "trained.json").exists():
            return outcome
        shutil.rmtree(run)
    pytest.fail("the signals always came too late to interrupt anything")


def test_killed_in_the_middle_of_training(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert start_and_send([signal.SIGKILL], recipe, run).code == -signal.SIGKILL
    assert checkpoints.latest(run / "checkpoints") is not None
    ok("run", recipe, "--run", run)
    assert_same_bytes(run, finished)
    assert steps_and_scores(run) == steps_and_scores(finished)


def test_terminated_in_the_middle_of_training(recipe: Path, finished: Path, tmp_path: Path) -> None:
    """Twice, as by somebody who is in a hurry."""
    run = tmp_path / "run"
    outcome = start_and_send([signal.SIGTERM, signal.SIGINT], recipe, run)
    assert outcome.code == 5
    assert "run the same command again" in outcome.err and "Traceback" not in outcome.err
    saved = checkpoints.latest(run / "checkpoints")
    assert saved is not None and saved.name == f"step-{logged_steps(run)}"
    ok("run", recipe, "--run", run)
    assert_same_bytes(run, finished)
    assert steps_and_scores(run) == steps_and_scores(finished)


@pytest.mark.slow
def test_on_a_terminal_a_stopped_command_takes_its_bar_away_and_leaves_the_cursor(recipe: Path, tmp_path: Path) -> None:
    run, shown = tmp_path / "run", bytearray()
    screen, terminal = pty.openpty()

    def watch() -> None:
        with suppress(OSError):  # what Linux says at the end
            while read := os.read(screen, 4096):
                shown.extend(read)

    watcher = Thread(target=watch)
    watcher.start()
    command = [sys.executable, "-m", "keeptune", "run", str(recipe), "--run", str(run)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    ) as own:
        os.close(terminal)
        while logged_steps(run) < 2:
            assert own.poll() is None, shown.decode()
            time.sleep(0.01)
        own.send_signal(signal.SIGINT)
    watcher.join()
    os.close(screen)
    assert own.returncode == 5
    hide, show = b"\x1b[?25l", b"\x1b[?25h"
    assert shown.count(hide) == shown.count(show) > 0
    assert shown.rpartition(show)[2].rstrip().endswith(b"run the same command again to continue")


def test_a_second_process_in_the_same_directory_is_refused(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with process("run", recipe, "--run", run) as running:
        wait_until(lambda: logged_steps(run) >= 2, running)
        running.send_signal(signal.SIGSTOP)
        before = files(run)
        for command in (["run", recipe, "--run", run], ["train", run]):
            assert "another process" in refused(2, *command)
        assert files(run) == before
        running.send_signal(signal.SIGCONT)
        assert ended(running).code == 0
    assert_same_bytes(run, finished)


def test_a_recipe_is_not_exchanged_while_its_data_is_prepared(
    make_recipe: MakeRecipe, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with process("data", make_recipe(data=SLOW_DATA), "--run", run) as running:
        wait_until((run / ".lock").exists, running)
        running.send_signal(signal.SIGSTOP)
        before = files(run)
        assert "another process" in refused(2, "data", recipe, "--run", run)
        assert files(run) == before
    ok("data", recipe, "--run", run)  # the other one was killed


def test_an_interrupted_dev_score_is_computed_after_resuming(recipe: Path, finished: Path, tmp_path: Path) -> None:
    """Killed between the checkpoint of step 12 and its dev score: the choice must not depend on it."""
    run = tmp_path / "run"
    copy_until(finished, run, step=12)
    assert ("score", 12) not in steps_and_scores(run)
    ok("run", recipe, "--run", run)
    assert_same_bytes(run, finished)
    assert steps_and_scores(run) == steps_and_scores(finished)


def test_a_half_written_checkpoint_is_never_resumed_from(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    copy_until(finished, run, step=12)
    cut_off = run / "checkpoints" / "step-12" / "adapter_model.safetensors"
    cut_off.write_bytes(cut_off.read_bytes()[:-1])
    (run / "checkpoints" / "step-16.tmp-1").mkdir()
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "train", "st')
    ok("run", recipe, "--run", run)
    assert_same_bytes(run, finished)
    assert steps_and_scores(run) == steps_and_scores(finished)


def copy_until(finished: Path, run: Path, step: int) -> None:
    """A run directory as it is when training was killed right after the checkpoint of a step."""
    for name, content in files(finished).items():
        folder, _, rest = name.partition("/")
        saved = int(rest.partition("/")[0].partition("-")[2] or 0) if rest.startswith("step-") else 0
        in_time = folder == "checkpoints" and 0 < saved <= step
        if folder in ("data", "recipe.yaml", "manifest.json") or in_time:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
    lines = (finished / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if json.loads(line).get("step") == step)
    (run / "log.jsonl").write_text("".join(lines[: place + 1]), encoding="utf-8")


def test_stopped_between_two_scores(recipe: Path, finished: Path, tmp_path: Path) -> None:
    """What is scored stays, and only the rest is asked again."""
    run = tmp_path / "run"
    for name, content in files(finished).items():
        if name not in ("result.json", "report.html", "report.md", "scores/retained-tuned.jsonl"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
    kept = (run / "scores" / "skill-tuned.jsonl").stat().st_mtime_ns
    ok("run", recipe, "--run", run)
    assert (run / "scores" / "skill-tuned.jsonl").stat().st_mtime_ns == kept
    assert_same_bytes(run, finished)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_checkpoint_exits(number: int, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", make_recipe(data=SLOW_DATA)
    with process("run", recipe, "--run", run) as running:
        wait_until(lambda: (run / "data" / "rejected.jsonl").exists(), running)
        running.send_signal(number)
        outcome = ended(running)
    assert outcome.code == 5
    assert "keeptune: stopped" in outcome.err and "Traceback" not in outcome.err
    assert not (run / "data" / "card.json").exists()


def test_a_run_of_another_recipe_is_left_alone(make_recipe: MakeRecipe, finished: Path) -> None:
    before = files(finished)
    outcome = keeptune("run", make_recipe(train={"learning_rate": 0.003}), "--run", finished)
    assert outcome.code == 2
    assert "holds a run of another recipe; choose another directory with --run" in outcome.err
    assert files(finished) == before


def test_a_run_of_an_older_version_resumes(make_recipe: MakeRecipe, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    stored = (run / "recipe.yaml").read_text(encoding="utf-8")
    older = stored.replace("engine: torch\n", "")
    assert older != stored
    (run / "recipe.yaml").write_text(older, encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["hashes"]["recipe"] = file_sha256(run / "recipe.yaml")
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (run / "result.json").unlink()
    ok("run", make_recipe(), "--run", run)
    assert (run / "result.json").is_file()
    assert (run / "recipe.yaml").read_text(encoding="utf-8") == older
