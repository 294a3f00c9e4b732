"""Training in float16 equals float32 up to rounding, and an overflow halves the loss scale."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.models.load import load_model
from keeptune.training.gradient import INITIAL_LOSS_SCALE
from keeptune.training.loop import StepRecord, Trainer

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
SETTINGS = tiny.settings(epochs=2, tokens_per_step=600, learning_rate=0.01)


def make_trainer(model_folder: Path, run: Path, dtype: str) -> Trainer:
    run.mkdir(exist_ok=True)
    return Trainer(tiny.tune(load_model(str(model_folder), dtype)), EXAMPLES, SETTINGS, seed=3, run=run)


def train(own: Trainer) -> list[StepRecord]:
    records: list[StepRecord] = []
    own.run(records.append)
    return records


def test_losses_match_float32(model_folder: Path, tmp_path: Path) -> None:
    half, single = (make_trainer(model_folder, tmp_path / dtype, dtype) for dtype in ("float16", "float32"))
    assert half.engine.loss_scale > 1 == single.engine.loss_scale
    own, other = train(half), train(single)
    for name in ("loss", "grad_norm"):
        actual, expected = ([getattr(step, name) for step in steps] for steps in (own, other))
        assert actual == pytest.approx(expected, rel=0.02), name
    assert own[-1].loss < own[0].loss
    assert all(p.dtype == torch.float32 for p in half.parameters)


def test_an_overflow_halves_the_scale_and_repeats_the_step(model_folder: Path, tmp_path: Path) -> None:
    own = make_trainer(model_folder, tmp_path / "run", "float16")
    own.engine.loss_scale = 2.0**40
    steps = train(own)
    assert 1 < own.engine.loss_scale < 2.0**40
    expected = train(make_trainer(model_folder, tmp_path / "other", "float16"))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=0.02)


def test_a_checkpoint_stores_the_scale(model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(make_trainer(model_folder, run, "float16"))
    newest = max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    progress = json.loads((newest / "progress.json").read_text(encoding="utf-8"))
    resumed: Any = make_trainer(model_folder, run, "float16")
    resumed.engine.loss_scale = 7.0
    resumed.run(lambda _: None)
    assert resumed.engine.loss_scale == progress["loss_scale"] == INITIAL_LOSS_SCALE
