"""Two processes train as one does: equal losses, equal adapters, and checkpoints that either can resume from."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training import together
from training.test_interruptions import final_state

from keeptune.errors import RunError
from keeptune.training import checkpoints
from keeptune.training.batches import MAX_IMBALANCE, plan_steps, split_step
from keeptune.training.distributed import DistributedContext, local_device_index

TESTS = Path(__file__).parent.parent
PATIENCE_SECONDS = 600


class Crash(BaseException):
    """Simulates a crash."""


def crash(step: Any) -> None:
    if step.step == together.STOP_AT:
        raise Crash


def train_alone(model_folder: Path, run: Path, **changes: Any) -> Path:
    """The run directory of a training in this process, new or resumed."""
    trainer = together.make_trainer(model_folder, run, **changes)
    trainer.run(together.watch_nothing, together.answers(trainer))
    return run


@pytest.fixture(scope="module")
def pair(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of two processes."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(Crash):
        trainer = together.make_trainer(model_folder, folder / "resumed")
        trainer.run(crash, together.answers(trainer))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, together.__file__, str(model_folder), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def single(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process."""
    return train_alone(model_folder, tmp_path_factory.mktemp("single"))


def settled(config: bytes) -> dict[str, Any]:
    """The contents of adapter_config.json, with sets sorted, because PEFT writes them in arbitrary order."""
    return {key: sorted(value) if isinstance(value, list) else value for key, value in json.loads(config).items()}


def assert_equal_up_to_rounding(run: Path, other: Path) -> None:
    """Asserts that the logs and the last checkpoints of two trainings are equal up to rounding."""
    (files, events), (other_files, other_events) = final_state(run), final_state(other)
    assert files.keys() == other_files.keys()
    assert settled(files["adapter_config.json"]) == settled(other_files["adapter_config.json"])
    assert len(events) == len(other_events)
    for event, other_event in zip(events, other_events, strict=True):
        assert event.keys() == other_event.keys()
        for key in event.keys() - {"event", "answers"}:
            assert event[key] == pytest.approx(other_event[key], abs=1e-5, rel=1e-5), (event["step"], key)
        assert event.get("answers") == other_event.get("answers")
    newest, other_newest = checkpoints.latest(run / "checkpoints"), checkpoints.latest(other / "checkpoints")
    assert newest and other_newest
    for name in ("adapter_model.safetensors", "optimiser.safetensors"):
        tensors, other_tensors = load_file(newest / name), load_file(other_newest / name)
        assert tensors.keys() == other_tensors.keys()
        for key in tensors.keys() - {"random_state"}:
            torch.testing.assert_close(tensors[key], other_tensors[key], atol=1e-5, rtol=1e-5)


def reports(pair: Path) -> list[dict[str, Any]]:
    return [json.loads((pair / f"said-{number}.json").read_text(encoding="utf-8")) for number in range(2)]


def test_two_processes_train_as_one(pair: Path, single: Path) -> None:
    assert_equal_up_to_rounding(pair / "plain", single)


def test_two_processes_resume_from_a_checkpoint_of_one(pair: Path, single: Path) -> None:
    assert_equal_up_to_rounding(pair / "resumed", single)


def test_a_signal_to_one_process_stops_both_and_one_resumes(pair: Path, single: Path, model_folder: Path) -> None:
    for report in reports(pair):
        code, message = report["interrupted"]
        assert code == 5
        assert f"step {together.STOP_AT} of 6" in message
    newest = checkpoints.latest(pair / "interrupted" / "checkpoints")
    assert newest is not None and newest.name == f"step-{together.STOP_AT}"
    assert_equal_up_to_rounding(train_alone(model_folder, pair / "interrupted"), single)


@pytest.mark.parametrize(
    ("whole", "broken"),
    [("plain", "interrupted-two"), ("dropout", "dropout-interrupted"), ("sharded", "sharded-interrupted")],
)
def test_two_processes_resume_to_the_same_bytes(pair: Path, whole: str, broken: str) -> None:
    assert final_state(pair / broken) == final_state(pair / whole)
    assert all(report[broken][0] == 5 and f"{broken} again" not in report for report in reports(pair))


def test_dropout_differs_between_processes(pair: Path) -> None:
    plain, dropout = (final_state(pair / name)[1][0]["loss"] for name in ("plain", "dropout"))
    assert dropout != pytest.approx(plain, abs=1e-5)
    seeds = {report["dropout's seed"] for report in reports(pair)}
    assert len(seeds) == 2


def test_the_end_of_another_process_raises(pair: Path) -> None:
    code, message = reports(pair)[0]["left alone"]
    assert code == 2
    assert "another process" in message


def test_a_non_finite_loss_in_one_process_stops_both_and_saves_nothing(pair: Path) -> None:
    for report in reports(pair):
        code, message = report["nan"]
        assert code == 2
        assert "loss is not finite" in message and "rows.jsonl:666" in message
    failed_step = int(reports(pair)[0]["nan"][1].partition("step ")[2].partition(":")[0])
    newest = checkpoints.latest(pair / "nan" / "checkpoints")
    assert int(newest.name.removeprefix("step-") if newest else 0) < failed_step


def test_a_sharded_base_trains_as_an_unsharded_one(pair: Path, single: Path) -> None:
    assert_equal_up_to_rounding(pair / "sharded", single)
    for report in reports(pair):
        assert report["sharded: local share of the blocks"] == pytest.approx(0.5, abs=0.01)
    assert not any("local share" in key for key in reports(pair)[0] if key.startswith("plain"))


@pytest.mark.parametrize(
    ("pairs", "where"), [("held", "prompts"), ("sharded-held", "prompts"), ("sharded-held-on-replay", "replay")]
)
def test_two_processes_compute_the_same_kl_term_as_one(
    pairs: str, where: str, pair: Path, model_folder: Path, tmp_path: Path
) -> None:
    assert_equal_up_to_rounding(
        pair / pairs, train_alone(model_folder, tmp_path / pairs, kl_weight=0.5, kl_tokens=where)
    )


@pytest.mark.parametrize(
    ("pairs", "retain"),
    [
        ("weighted", {"token_weighting": "eaft", "kl_weight": 0.5, "kl_tokens": "non_target"}),
        ("sharded-masked", {"token_weighting": "low_perplexity"}),
        ("distribution", {"kl_weight": 0.5, "kl_tokens": "replay", "replay_target": "distribution"}),
    ],
)
def test_two_processes_weight_tokens_as_one(
    pairs: str, retain: dict[str, Any], pair: Path, model_folder: Path, tmp_path: Path
) -> None:
    assert_equal_up_to_rounding(pair / pairs, train_alone(model_folder, tmp_path / pairs, **retain))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_trains_on_a_sharded_base(family: str, pair: Path, model_folder: Path, tmp_path: Path) -> None:
    run = train_alone(model_folder, tmp_path / family, family=family, score_every_steps=0)
    assert_equal_up_to_rounding(pair / f"family-{family}", run)


LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 600), st.integers(1, 9))
def test_split_step_covers_each_row_once(lengths: list[int], per_step: int, per_batch: int, count: int) -> None:
    def padded(batches: list[tuple[int, ...]]) -> int:
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    for step in plan_steps(lengths, per_step, per_batch, 1, seed=0):
        assigned = split_step(step, lengths, count)
        assert len(assigned) == count
        rows = [row for share in assigned for batch in share for row in batch]
        assert sorted(rows) == sorted(row for batch in step for row in batch)
        # Each part is a batch of the plan or a piece of one.
        assert all(any(set(part) <= set(batch) for batch in step) for share in assigned for part in share)
        sizes = [padded(share) for share in assigned]
        even = max(sizes) * count <= MAX_IMBALANCE * sum(sizes)
        assert even or 1 in {len(batch) for batch in assigned[sizes.index(max(sizes))]}


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 600))
def test_one_process_gets_the_whole_step(lengths: list[int], per_step: int, per_batch: int) -> None:
    for step in plan_steps(lengths, per_step, per_batch, 1, seed=0):
        assert split_step(step, lengths, 1) == [step]


def test_the_end_of_a_process_runs_exit_functions_and_keeps_the_code() -> None:
    # Without `end_process`, a run ended with SIGABRT now and then, after its work was done.
    code = (
        "import atexit; from keeptune.training.distributed import end_process; "
        "atexit.register(print, 'flushed'); end_process(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stdout) == (3, "flushed\n")


@pytest.mark.parametrize(("visible", "index"), [(8, 5), (1, 0)])
def test_a_process_takes_its_card_of_those_it_sees(visible: int, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: visible)
    assert local_device_index() == index


@pytest.mark.parametrize(
    ("error", "reason"),
    [("Connection closed by peer", "another process"), ("Cuda failure 2 'out of memory'", "out of memory")],
)
def test_a_failed_exchange_names_its_reason(error: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(error)

    context = DistributedContext()
    context.world_size = 2
    monkeypatch.setattr(torch.distributed, "all_gather_object", fail)
    with pytest.raises(RunError, match=reason) as caught:
        context.barrier()
    assert ("out of memory" in str(caught.value)) is (reason == "out of memory")


def test_an_incomplete_launcher_environment_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RunError, match="RANK=0, WORLD_SIZE=2"):
        DistributedContext()
