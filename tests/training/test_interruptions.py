"""Training does not depend on interruptions: crashes, signals, a full disk, and kills at any time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from training.test_loop import EXAMPLES, make_trainer, watch_nothing

from keeptune.errors import Interrupted, RunError, TrainingError
from keeptune.training import checkpoints
from keeptune.training.loop import StepRecord

TIMINGS = ("seconds", "tokens_per_second")


def final_state(run: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The last checkpoint and the log of a training, without timings."""
    newest = checkpoints.latest(run / "checkpoints")
    assert newest is not None
    names = ("adapter_model.safetensors", "optimiser.safetensors", "adapter_config.json")
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    untimed = [{key: value for key, value in event.items() if key not in TIMINGS} for event in events]
    return {newest.name: b"", **{name: (newest / name).read_bytes() for name in names}}, untimed


def score(step: int) -> dict[str, Any]:
    return {"accuracy": 1 / step}


SETTINGS = tiny.settings(score_every_steps=3)
STEPS = 6


@pytest.fixture(scope="module")
def uninterrupted(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Any]:
    """The result of an uninterrupted training, by dropout."""
    results: dict[float, Any] = {}

    def run(dropout: float) -> Any:
        if dropout not in results:
            folder = tmp_path_factory.mktemp("whole")
            trainer = make_trainer(model_folder, folder, SETTINGS, dropout=dropout)
            assert len(trainer.plan) == STEPS
            trainer.run(watch_nothing, score)
            results[dropout] = final_state(folder)
        return results[dropout]

    return run


class Crash(BaseException):
    """Simulates a crash."""


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("crash_at", range(1, STEPS + 1))
def test_a_crash_at_any_step_does_not_change_the_result(
    crash_at: int, dropout: float, model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    def crash(step: StepRecord) -> None:
        if step.step == crash_at:
            raise Crash

    with pytest.raises(Crash):
        make_trainer(model_folder, tmp_path, SETTINGS, dropout=dropout).run(crash, score)
    make_trainer(model_folder, tmp_path, SETTINGS, dropout=dropout).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(dropout)


def test_a_crash_during_an_evaluation_loses_no_score(
    model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    def crash(step: int) -> dict[str, Any]:
        raise Crash(step)

    with pytest.raises(Crash):
        make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, crash)
    make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(0.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_signal_saves_and_training_resumes(
    number: signal.Signals,
    stop_at: int,
    model_folder: Path,
    tmp_path: Path,
    uninterrupted: Callable[[float], Any],
) -> None:
    def stop(step: StepRecord) -> None:
        if step.step == stop_at:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"after step {stop_at} of 6"):
        make_trainer(model_folder, tmp_path, SETTINGS).run(stop, score)
    assert signal.getsignal(number) == handler
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{stop_at}"
    make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(0.0)


def test_a_signal_at_the_last_step_interrupts_after_saving(model_folder: Path, tmp_path: Path) -> None:
    def stop(step: StepRecord) -> None:
        if step.step == step.total_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="training is complete"):
        make_trainer(model_folder, tmp_path, SETTINGS).run(stop)
    assert make_trainer(model_folder, tmp_path, SETTINGS).run(stop).step == STEPS


def test_a_signal_during_the_score_that_stops_early_interrupts(model_folder: Path, tmp_path: Path) -> None:
    def stop(step: int) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return score(step)

    with pytest.raises(Interrupted, match="training is complete"):
        make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, stop, lambda: True)
    assert make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, stop, lambda: True).step == 3


def test_non_finite_weights_are_not_saved(model_folder: Path, tmp_path: Path) -> None:
    settings = tiny.settings(learning_rate=1e30, warmup_share=0, clip_norm=1e30, checkpoint_every_steps=1)
    trainer = make_trainer(model_folder, tmp_path, settings)
    trainer.parameters[0].data[0, 0] = float("inf")
    with pytest.raises(TrainingError, match="not finite; nothing of"):
        trainer.run(watch_nothing)
    assert checkpoints.latest(tmp_path / "checkpoints") is None


def test_resuming_with_other_rows_raises(model_folder: Path, tmp_path: Path) -> None:
    def stop(step: StepRecord) -> None:
        if step.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        make_trainer(model_folder, tmp_path, SETTINGS).run(stop)
    others = [*EXAMPLES[:-1], replace(EXAMPLES[-1], tokens=(*EXAMPLES[-1].tokens[:-1], 5))]
    with pytest.raises(RunError, match="rows or their order"):
        make_trainer(model_folder, tmp_path, SETTINGS, others).run(watch_nothing)
    assert make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score).step == STEPS


def test_a_truncated_log_line_is_written_again(
    model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    def crash(step: StepRecord) -> None:
        if step.step == 3:
            raise Crash

    with pytest.raises(Crash):
        make_trainer(model_folder, tmp_path, SETTINGS).run(crash, score)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "train", "st')
    make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(0.0)


def test_a_full_disk_raises_and_does_not_change_the_result(
    model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    def fill(step: StepRecord) -> None:
        if step.step == 3:
            disk.enter_context(tiny.full_disk(2000))

    with (
        ExitStack() as disk,
        pytest.raises(RunError, match=r"step-3.*cannot be written"),
    ):
        make_trainer(model_folder, tmp_path, SETTINGS).run(fill, score)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-2"]
    make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(0.0)


KILLED = """
import os, signal, sys
from pathlib import Path
import test_interruptions as tests

def kill(step):
    if step.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

tests.make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), tests.SETTINGS).run(kill, tests.score)
"""


@pytest.mark.parametrize(
    "kill_at", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_killed_training_resumes_to_the_same_result(
    kill_at: int, model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(model_folder), str(tmp_path), str(kill_at)]
    path = os.pathsep.join([str(here), str(here.parent)])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = checkpoints.latest(tmp_path / "checkpoints")
    assert (killed.name if killed else None) == {1: None, 3: "step-2", 6: "step-4"}[kill_at]
    make_trainer(model_folder, tmp_path, SETTINGS).run(watch_nothing, score)
    assert final_state(tmp_path) == uninterrupted(0.0)


KILLED_AT_ANY_TIME = """
import os, random, signal, sys, threading, time
from pathlib import Path
import test_interruptions as tests

model, run, whole = map(Path, sys.argv[1:4])

def trained_in_a_child(folder, seconds):
    child = os.fork()
    if child == 0:
        trainer = tests.make_trainer(model, folder, tests.SETTINGS)
        started = time.monotonic()
        if seconds is not None:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        trainer.run(tests.watch_nothing, tests.score)
        (whole / "seconds").write_text(str(time.monotonic() - started))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

whole.mkdir()
assert trained_in_a_child(whole, None) == 0
seconds, draw, kills, endings = float((whole / "seconds").read_text()), random.Random(0), 0, 0
(whole / "seconds").unlink()
while kills < 20:
    code = trained_in_a_child(run, draw.uniform(0, seconds))
    assert code in (0, -signal.SIGKILL), code
    kills += code != 0
    if code == 0:
        (whole / "seconds").unlink()
        run.rename(run.with_name(f"ended-{endings}"))
        endings += 1
print(endings)
"""


@pytest.mark.slow
def test_a_training_killed_twenty_times_ends_with_the_same_result(
    model_folder: Path, tmp_path: Path, uninterrupted: Callable[[float], Any]
) -> None:
    """Kills it in a step, in an evaluation or while a checkpoint is written; starts again when it has ended."""
    here, run = Path(__file__).parent, tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    command = [sys.executable, "-c", KILLED_AT_ANY_TIME, str(model_folder), str(run), str(tmp_path / "whole")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    make_trainer(model_folder, run, SETTINGS).run(watch_nothing, score)
    ended = [tmp_path / f"ended-{number}" for number in range(int(done.stdout))]
    for folder in (tmp_path / "whole", run, *ended):
        assert final_state(folder) == uninterrupted(0.0)


def test_the_log_keeps_lines_with_unicode_line_ends(model_folder: Path, tmp_path: Path) -> None:
    """F8: a kind with U+2028 was split into two damaged lines, which resuming then dropped."""
    trainer = make_trainer(model_folder, tmp_path, SETTINGS)
    kinds = {"a\u2028b\x85c": 1.0}
    events = [{"event": "train", "step": step, "loss": 1.0, "loss_by_kind": kinds} for step in (1, 2, 3)]
    for event in events:
        trainer.event_log.log(event)
    trainer._truncate_log(2)
    assert trainer.event_log.events() == events[:2]
