"""Averages of checkpoints are weighted means of their tensors, and are never taken for a checkpoint to resume from."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from keeptune.evaluation.checkpoint_averaging import averaged_checkpoints, checkpoint_weights
from keeptune.files import write_json
from keeptune.training import checkpoints


@given(st.sampled_from(["ema", "last-2", "last-3", "last-9"]), st.integers(0, 12))
def test_weights_sum_to_one_and_never_fall(average: str, count: int) -> None:
    weights = checkpoint_weights(average, count)
    assert weights == sorted(weights)
    assert not weights or sum(weights) == pytest.approx(1)
    assert len(weights) <= count


def test_an_average_is_the_mean_of_its_checkpoints(tmp_path: Path) -> None:
    folders = [tmp_path / f"step-{step}" for step in (10, 20, 30)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        save_file({"a": torch.full((2,), 2.0**number)}, folder / "adapter_model.safetensors")
        write_json(folder / "adapter_config.json", {"r": 2})
    made = averaged_checkpoints(folders, ["last-2", "last-4", "ema"])
    assert [path.name for path in made] == ["last-2-of-step-30", "ema-of-step-30"]
    values = [load_file(path / "adapter_model.safetensors")["a"] for path in made]
    torch.testing.assert_close(values[0], torch.full((2,), 3.0))
    torch.testing.assert_close(values[1], torch.full((2,), (1 * 1 + 2 * 2 + 4 * 4) / 7))
    assert not checkpoints.list_complete(tmp_path)
    assert averaged_checkpoints(folders, ["ema"]) == made[1:], "made once"
