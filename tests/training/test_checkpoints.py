"""A checkpoint is whole or is not there, and a whole one brings everything back."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.errors import RunError
from keeptune.training import checkpoints as checkpoint
from keeptune.training.checkpoints import COMPLETE, Progress
from keeptune.training.optimizer import optimiser, set_rate

Trained = tuple[Any, torch.optim.AdamW]


def trained(model_folder: Path, rank: int = 4, steps: int = 2) -> Trained:
    """An adapter that a few steps have moved, and the optimiser that moved it."""
    model = tiny.tune(tiny.load(model_folder), rank=rank)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made = optimiser(model, tiny.settings())
    set_rate(made, 0.01)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        made.step()
    return model, made


@pytest.fixture(scope="module")
def pair(model_folder: Path) -> Trained:
    return trained(model_folder)


def adapter(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_a_checkpoint_brings_everything_back(model_folder: Path, pair: Trained, tmp_path: Path) -> None:
    model, made = pair
    checkpoint.save(tmp_path, model, made, Progress(7, 1234, 5.5))
    drawn = torch.rand(3)
    other, other_made = trained(model_folder, steps=0)
    assert checkpoint.restore(tmp_path / "step-7", other, other_made) == Progress(7, 1234, 5.5)
    assert torch.equal(torch.rand(3), drawn)
    restored, wanted = adapter(other), adapter(model)
    assert all(torch.equal(restored[name], wanted[name]) for name in wanted)
    state, wanted_state = other_made.state_dict()["state"], made.state_dict()["state"]
    assert state.keys() == wanted_state.keys()
    for index, moments in wanted_state.items():
        assert state[index].keys() == moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(state[index][name], moments[name]) for name in moments)


def test_it_is_in_pefts_layout_and_states_its_files(pair: Trained, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *pair, Progress(1, 0, 0.0))
    names = {path.name for path in (tmp_path / "step-1").iterdir()}
    files = {"adapter_config.json", "adapter_model.safetensors", "optimiser.safetensors", "progress.json"}
    assert names == files | {COMPLETE}
    assert set(json.loads((tmp_path / "step-1" / COMPLETE).read_text(encoding="utf-8"))) == files
    assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]


def test_checkpoints_are_counted_as_numbers(pair: Trained, tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None
    for step in (10, 9, 100):
        checkpoint.save(tmp_path, *pair, Progress(step, 0, 0.0))
    assert [path.name for path in checkpoint.whole(tmp_path)] == ["step-9", "step-10", "step-100"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-100"


def cut(folder: Path) -> None:
    path = folder / "optimiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def state(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / COMPLETE).write_text(text, encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no complete.json": lambda folder: (folder / COMPLETE).unlink(),
    "a file cut short": cut,
    "one bit of a file": flip,
    "a file missing": lambda folder: (folder / "progress.json").unlink(),
    "complete.json cut short": state('{"progress.json": {"byt'),
    "complete.json empty": state(""),
    "complete.json of nothing": state("{}"),
    "complete.json a list": state('["progress.json"]'),
    "complete.json a number": state("5"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_from_a_damaged_checkpoint_nothing_is_resumed(
    damage: Callable[[Path], object], pair: Trained, tmp_path: Path
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, *pair, Progress(step, 0, 0.0))
    damage(tmp_path / "step-2")
    assert checkpoint.latest(tmp_path) == tmp_path / "step-1"
    # The next save of that step takes its place.
    checkpoint.save(tmp_path, *pair, Progress(2, 0, 0.0))
    assert checkpoint.latest(tmp_path) == tmp_path / "step-2"


def test_other_things_in_the_folder_are_no_checkpoints(pair: Trained, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *pair, Progress(1, 0, 0.0))
    for name in ("step-2.tmp-123", "step-", "step-two", "step-2x", "other-3"):
        shutil.copytree(tmp_path / "step-1", tmp_path / name)
    (tmp_path / "step-4").write_text("a file", encoding="utf-8")
    (tmp_path / "trained.json").write_text("{}", encoding="utf-8")
    assert checkpoint.whole(tmp_path) == [tmp_path / "step-1"]


def test_what_a_killed_process_with_our_id_left_is_no_hindrance(pair: Trained, tmp_path: Path) -> None:
    scratch = tmp_path / f"step-1.tmp-{os.getpid()}"
    scratch.mkdir()
    (scratch / "adapter_model.safetensors").write_text("half", encoding="utf-8")
    (scratch / "old").write_text("of no use", encoding="utf-8")
    checkpoint.save(tmp_path, *pair, Progress(1, 0, 0.0))
    assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]
    assert checkpoint.is_whole(tmp_path / "step-1")
    assert not (tmp_path / "step-1" / "old").exists()


def test_a_checkpoint_of_another_adapter_is_refused(model_folder: Path, pair: Trained, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *pair, Progress(1, 0, 0.0))
    other, made = trained(model_folder, rank=8)
    with pytest.raises(RunError, match=r"step-1: it holds another adapter than the recipe asks for; use a new run"):
        checkpoint.restore(tmp_path / "step-1", other, made)


def test_a_full_disk_leaves_the_checkpoint_before(pair: Trained, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, *pair, Progress(1, 0, 0.0))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "step-1").iterdir()}
    before = {path.name: path.read_bytes() for path in (tmp_path / "step-1").iterdir()}
    # Full at once, in the adapter, and in the optimiser's state, which is the largest file.
    limits = (0, 100, sizes["adapter_model.safetensors"] - 1, sizes["optimiser.safetensors"] - 1)
    assert sorted(limits) == list(limits)
    for limit in limits:
        with tiny.full_disk(limit), pytest.raises(RunError, match=r"step-2.*cannot be written"):
            checkpoint.save(tmp_path, *pair, Progress(2, 0, 0.0))
        assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "step-1").iterdir()} == before
    assert checkpoint.latest(tmp_path) == tmp_path / "step-1"
    checkpoint.save(tmp_path, *pair, Progress(2, 0, 0.0))
    assert checkpoint.latest(tmp_path) == tmp_path / "step-2"


def test_where_no_folder_can_be_made(pair: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RunError, match=r"file/checkpoints/step-1: cannot be written \(Not a directory\)"):
        checkpoint.save(tmp_path / "file" / "checkpoints", *pair, Progress(1, 0, 0.0))
