"""In float16, training is what it is in float32 but for rounding; a loss scale that is too large is halved and kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.models.load import load_model
from keeptune.training.gradient import FIRST_LOSS_SCALE
from keeptune.training.loop import Step, Trainer

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
SETTINGS = tiny.settings(epochs=2, tokens_per_step=600, learning_rate=0.01)


def trainer(model_folder: Path, run: Path, dtype: str) -> Trainer:
    run.mkdir(exist_ok=True)
    return Trainer(tiny.tune(load_model(str(model_folder), dtype)), EXAMPLES, SETTINGS, seed=3, run=run)


def trained(own: Trainer) -> list[Step]:
    seen: list[Step] = []
    own.run(seen.append)
    return seen


def test_the_losses_are_those_of_float32(model_folder: Path, tmp_path: Path) -> None:
    half, single = (trainer(model_folder, tmp_path / dtype, dtype) for dtype in ("float16", "float32"))
    assert half.gradient.loss_scale > 1 == single.gradient.loss_scale
    own, other = trained(half), trained(single)
    for name in ("loss", "grad_norm"):
        found, expected = ([getattr(step, name) for step in steps] for steps in (own, other))
        assert found == pytest.approx(expected, rel=0.02), name
    assert own[-1].loss < own[0].loss
    assert all(p.dtype == torch.float32 for p in half.gradient.parameters)


def test_too_large_a_scale_is_halved_and_the_step_is_done_again(model_folder: Path, tmp_path: Path) -> None:
    own = trainer(model_folder, tmp_path / "run", "float16")
    own.gradient.loss_scale = 2.0**40
    steps = trained(own)
    assert 1 < own.gradient.loss_scale < 2.0**40
    expected = trained(trainer(model_folder, tmp_path / "other", "float16"))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=0.02)


def test_the_scale_is_part_of_a_checkpoint(model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(trainer(model_folder, run, "float16"))
    newest = max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    progress = json.loads((newest / "progress.json").read_text(encoding="utf-8"))
    again: Any = trainer(model_folder, run, "float16")
    again.gradient.loss_scale = 7.0
    again.run(lambda _: None)
    assert again.gradient.loss_scale == progress["loss_scale"] == FIRST_LOSS_SCALE
