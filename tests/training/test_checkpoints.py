"""Checkpoints are atomic, and a complete one restores the whole state."""

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
from keeptune.training import checkpoints
from keeptune.training.checkpoints import COMPLETE, Progress
from keeptune.training.optimizer import create_optimizer, set_learning_rate

Trained = tuple[Any, torch.optim.AdamW]


def trained(model_folder: Path, rank: int = 4, steps: int = 2) -> Trained:
    """An adapter after a few steps, and its optimizer."""
    model = tiny.tune(tiny.load(model_folder), rank=rank)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = create_optimizer(model, tiny.settings())
    set_learning_rate(optimizer, 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return model, optimizer


@pytest.fixture(scope="module")
def pair(model_folder: Path) -> Trained:
    return trained(model_folder)


def adapter(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_a_checkpoint_restores_the_whole_state(model_folder: Path, pair: Trained, tmp_path: Path) -> None:
    model, optimizer = pair
    checkpoints.save(tmp_path, model, optimizer, Progress(7, 1234, 5.5))
    random_values = torch.rand(3)
    other, other_optimizer = trained(model_folder, steps=0)
    assert checkpoints.restore(tmp_path / "step-7", other, other_optimizer) == Progress(7, 1234, 5.5)
    assert torch.equal(torch.rand(3), random_values)
    restored, expected = adapter(other), adapter(model)
    assert all(torch.equal(restored[name], expected[name]) for name in expected)
    state, expected_state = other_optimizer.state_dict()["state"], optimizer.state_dict()["state"]
    assert state.keys() == expected_state.keys()
    for index, moments in expected_state.items():
        assert state[index].keys() == moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(state[index][name], moments[name]) for name in moments)


def test_layout_is_pefts_and_the_manifest_lists_all_files(pair: Trained, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, *pair, Progress(1, 0, 0.0))
    names = {path.name for path in (tmp_path / "step-1").iterdir()}
    files = {"adapter_config.json", "adapter_model.safetensors", "optimiser.safetensors", "progress.json"}
    assert names == files | {COMPLETE}
    assert set(json.loads((tmp_path / "step-1" / COMPLETE).read_text(encoding="utf-8"))) == files
    assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]


def test_checkpoints_are_sorted_by_number(pair: Trained, tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "none") is None
    for step in (10, 9, 100):
        checkpoints.save(tmp_path, *pair, Progress(step, 0, 0.0))
    assert [path.name for path in checkpoints.list_complete(tmp_path)] == ["step-9", "step-10", "step-100"]
    assert checkpoints.latest(tmp_path) == tmp_path / "step-100"


def truncate(folder: Path) -> None:
    path = folder / "optimiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip_bit(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def state(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / COMPLETE).write_text(text, encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no complete.json": lambda folder: (folder / COMPLETE).unlink(),
    "a file cut short": truncate,
    "one bit of a file": flip_bit,
    "a file missing": lambda folder: (folder / "progress.json").unlink(),
    "complete.json cut short": state('{"progress.json": {"byt'),
    "complete.json empty": state(""),
    "complete.json of nothing": state("{}"),
    "complete.json a list": state('["progress.json"]'),
    "complete.json a number": state("5"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_never_resumed(damage: Callable[[Path], object], pair: Trained, tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, *pair, Progress(step, 0, 0.0))
    damage(tmp_path / "step-2")
    assert checkpoints.latest(tmp_path) == tmp_path / "step-1"
    # The next save of that step replaces it.
    checkpoints.save(tmp_path, *pair, Progress(2, 0, 0.0))
    assert checkpoints.latest(tmp_path) == tmp_path / "step-2"


def test_other_files_in_the_folder_are_ignored(pair: Trained, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, *pair, Progress(1, 0, 0.0))
    for name in ("step-2.tmp-123", "step-", "step-two", "step-2x", "other-3"):
        shutil.copytree(tmp_path / "step-1", tmp_path / name)
    (tmp_path / "step-4").write_text("a file", encoding="utf-8")
    (tmp_path / "trained.json").write_text("{}", encoding="utf-8")
    assert checkpoints.list_complete(tmp_path) == [tmp_path / "step-1"]


def test_scratch_of_a_killed_process_with_the_same_id_is_replaced(pair: Trained, tmp_path: Path) -> None:
    scratch = tmp_path / f"step-1.tmp-{os.getpid()}"
    scratch.mkdir()
    (scratch / "adapter_model.safetensors").write_text("half", encoding="utf-8")
    (scratch / "old").write_text("of no use", encoding="utf-8")
    checkpoints.save(tmp_path, *pair, Progress(1, 0, 0.0))
    assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]
    assert checkpoints.is_complete(tmp_path / "step-1")
    assert not (tmp_path / "step-1" / "old").exists()


def test_a_checkpoint_of_another_adapter_raises(model_folder: Path, pair: Trained, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, *pair, Progress(1, 0, 0.0))
    other, optimizer = trained(model_folder, rank=8)
    with pytest.raises(RunError, match=r"step-1: holds another adapter"):
        checkpoints.restore(tmp_path / "step-1", other, optimizer)


def test_a_full_disk_leaves_the_previous_checkpoint(pair: Trained, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, *pair, Progress(1, 0, 0.0))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "step-1").iterdir()}
    before = {path.name: path.read_bytes() for path in (tmp_path / "step-1").iterdir()}
    # The disk is full at once, within the adapter, and within the optimizer's state, the largest file.
    limits = (0, 100, sizes["adapter_model.safetensors"] - 1, sizes["optimiser.safetensors"] - 1)
    assert sorted(limits) == list(limits)
    for limit in limits:
        with tiny.full_disk(limit), pytest.raises(RunError, match=r"step-2.*cannot be written"):
            checkpoints.save(tmp_path, *pair, Progress(2, 0, 0.0))
        assert list(tmp_path.iterdir()) == [tmp_path / "step-1"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "step-1").iterdir()} == before
    assert checkpoints.latest(tmp_path) == tmp_path / "step-1"
    checkpoints.save(tmp_path, *pair, Progress(2, 0, 0.0))
    assert checkpoints.latest(tmp_path) == tmp_path / "step-2"


def test_a_folder_that_cannot_be_created_raises(pair: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RunError, match=r"step-1: cannot be written"):
        checkpoints.save(tmp_path / "file" / "checkpoints", *pair, Progress(1, 0, 0.0))
