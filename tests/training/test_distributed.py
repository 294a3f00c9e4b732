"""Two processes train what one trains: equal losses, equal adapter, checkpoints that either can go on from."""

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
from training.test_loop import left

from keeptune.errors import RunError
from keeptune.training import checkpoints as checkpoint
from keeptune.training.batches import UNEVEN, shares, steps
from keeptune.training.distributed import Processes

TESTS = Path(__file__).parent.parent
PATIENCE_SECONDS = 600


class Crash(BaseException):
    """Ends a training as abruptly as a test can without ending itself."""


def crash(step: Any) -> None:
    if step.step == together.STOP_AT:
        raise Crash


def alone(model_folder: Path, run: Path, **changes: Any) -> Path:
    """The run directory of a training by this one process, begun or gone on with."""
    made = together.make(model_folder, run, **changes)
    made.run(together.watch_nothing, together.answers(made))
    return run


@pytest.fixture(scope="module")
def pair(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have done all of their jobs."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(Crash):
        made = together.make(model_folder, folder / "resumed")
        made.run(crash, together.answers(made))
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
    """What one process makes of the same."""
    return alone(model_folder, tmp_path_factory.mktemp("single"))


def settled(config: bytes) -> dict[str, Any]:
    """What an adapter_config.json says; PEFT writes its sets in the order of the process."""
    return {key: sorted(value) if isinstance(value, list) else value for key, value in json.loads(config).items()}


def assert_alike(run: Path, other: Path) -> None:
    """Fails unless two trainings logged the same and left the same, but for rounding in the last digits."""
    (files, events), (other_files, other_events) = left(run), left(other)
    assert files.keys() == other_files.keys()
    assert settled(files["adapter_config.json"]) == settled(other_files["adapter_config.json"])
    assert len(events) == len(other_events)
    for own, its in zip(events, other_events, strict=True):
        assert own.keys() == its.keys()
        for key in own.keys() - {"event", "answers"}:
            assert own[key] == pytest.approx(its[key], abs=1e-5, rel=1e-5), (own["step"], key)
        assert own.get("answers") == its.get("answers")
    newest, its_newest = checkpoint.latest(run / "checkpoints"), checkpoint.latest(other / "checkpoints")
    assert newest and its_newest
    for name in ("adapter_model.safetensors", "optimiser.safetensors"):
        tensors, its_tensors = load_file(newest / name), load_file(its_newest / name)
        assert tensors.keys() == its_tensors.keys()
        for key in tensors.keys() - {"random_state"}:
            torch.testing.assert_close(tensors[key], its_tensors[key], atol=1e-5, rtol=1e-5)


def said(pair: Path) -> list[dict[str, Any]]:
    return [json.loads((pair / f"said-{number}.json").read_text(encoding="utf-8")) for number in range(2)]


def test_two_processes_train_what_one_trains(pair: Path, single: Path) -> None:
    assert_alike(pair / "plain", single)


def test_two_go_on_from_the_checkpoint_of_one(pair: Path, single: Path) -> None:
    assert_alike(pair / "resumed", single)


def test_asked_to_stop_one_of_them_both_stop_and_one_goes_on(pair: Path, single: Path, model_folder: Path) -> None:
    for seen in said(pair):
        code, message = seen["interrupted"]
        assert code == 5
        assert message.startswith(f"stopped after step {together.STOP_AT} of 6, which is saved; run the same command")
    newest = checkpoint.latest(pair / "interrupted" / "checkpoints")
    assert newest is not None and newest.name == f"step-{together.STOP_AT}"
    assert_alike(alone(model_folder, pair / "interrupted"), single)


@pytest.mark.parametrize(
    ("whole", "broken"),
    [("plain", "interrupted-two"), ("dropout", "dropout-interrupted"), ("sharded", "sharded-interrupted")],
)
def test_two_go_on_from_their_own_checkpoint_to_the_same_bytes(pair: Path, whole: str, broken: str) -> None:
    assert left(pair / broken) == left(pair / whole)
    assert all(seen[broken][0] == 5 and f"{broken} again" not in seen for seen in said(pair))


def test_dropout_is_drawn_anew_by_each(pair: Path) -> None:
    plain, dropout = (left(pair / name)[1][0]["loss"] for name in ("plain", "dropout"))
    assert dropout != pytest.approx(plain, abs=1e-3)
    seeds = {seen["dropout's seed"] for seen in said(pair)}
    assert len(seeds) == 2


def test_who_is_left_alone_says_so(pair: Path) -> None:
    code, message = said(pair)[0]["left alone"]
    assert code == 2
    assert message.startswith("another process of this training has ended; its own message says why. Then run the same")


def test_a_loss_that_is_not_finite_on_one_stops_both_and_saves_nothing(pair: Path) -> None:
    for seen in said(pair):
        code, message = seen["nan"]
        assert code == 2
        assert "the loss is not finite; nothing of this step is saved. Rows: rows.jsonl:666. Lower" in message
    refused = int(said(pair)[0]["nan"][1].partition("step ")[2].partition(":")[0])
    newest = checkpoint.latest(pair / "nan" / "checkpoints")
    assert int(newest.name.removeprefix("step-") if newest else 0) < refused


def test_a_divided_base_trains_what_a_whole_one_trains(pair: Path, single: Path) -> None:
    assert_alike(pair / "sharded", single)
    for seen in said(pair):
        assert seen["sharded: own share of the blocks"] == pytest.approx(0.5, abs=0.01)
    assert not any("own share" in key for key in said(pair)[0] if key.startswith("plain"))


@pytest.mark.parametrize(
    ("pairs", "where"), [("held", "prompts"), ("sharded-held", "prompts"), ("sharded-held-on-replay", "replay")]
)
def test_two_processes_hold_what_one_holds(
    pairs: str, where: str, pair: Path, model_folder: Path, tmp_path: Path
) -> None:
    assert_alike(pair / pairs, alone(model_folder, tmp_path / pairs, kl_weight=0.5, kl_tokens=where))


@pytest.mark.parametrize(
    ("pairs", "retain"),
    [
        ("weighted", {"token_weighting": "eaft", "kl_weight": 0.5, "kl_tokens": "non_target"}),
        ("sharded-masked", {"token_weighting": "low_perplexity"}),
        ("distribution", {"kl_weight": 0.5, "kl_tokens": "replay", "replay_target": "distribution"}),
    ],
)
def test_two_processes_weigh_tokens_as_one_does(
    pairs: str, retain: dict[str, Any], pair: Path, model_folder: Path, tmp_path: Path
) -> None:
    assert_alike(pair / pairs, alone(model_folder, tmp_path / pairs, **retain))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_trains_on_a_divided_base(family: str, pair: Path, model_folder: Path, tmp_path: Path) -> None:
    run = alone(model_folder, tmp_path / family, family=family, score_every_steps=0)
    assert_alike(pair / f"family-{family}", run)


LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 600), st.integers(1, 9))
def test_the_shares_of_a_step_are_its_rows(lengths: list[int], per_step: int, per_batch: int, count: int) -> None:
    def padded(batches: list[tuple[int, ...]]) -> int:
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    for step in steps(lengths, per_step, per_batch, 1, seed=0):
        dealt = shares(step, lengths, count)
        assert len(dealt) == count
        rows = [row for share in dealt for batch in share for row in batch]
        assert sorted(rows) == sorted(row for batch in step for row in batch)
        # A part is a batch of the plan or a piece of one.
        assert all(any(set(part) <= set(batch) for batch in step) for share in dealt for part in share)
        sizes = [padded(share) for share in dealt]
        even = max(sizes) * count <= UNEVEN * sum(sizes)
        assert even or 1 in {len(batch) for batch in dealt[sizes.index(max(sizes))]}


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 600))
def test_one_process_does_the_steps_as_they_are(lengths: list[int], per_step: int, per_batch: int) -> None:
    for step in steps(lengths, per_step, per_batch, 1, seed=0):
        assert shares(step, lengths, 1) == [step]


def test_a_launcher_that_leaves_half_of_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RunError, match=r"process 0 of 2 .*cannot be joined .*start them with torchrun, or unset"):
        Processes()
