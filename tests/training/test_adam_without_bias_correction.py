"""MindFormers' optimizer against its formulas in numpy and against published numbers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from keeptune.config.recipe import parse
from keeptune.config.train import TrainSection
from keeptune.errors import RecipeError
from keeptune.models import adapters
from keeptune.training import checkpoints
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.schedule import learning_rate

STEPS = 20
SETTINGS = tiny.settings(
    optimizer="mindformers",
    tokens_per_step=300,
    learning_rate=0.01,
    final_rate_share=0.1,
    warmup_share=0.24,
    weight_decay=0.02,
    epochs=3,
    clip_norm=1.0,
)


def stated(start: list[np.ndarray], gradients: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The reference in float64: clipping by the global norm, the schedule, and Adam without bias correction."""
    weights = [array.astype(np.float64) for array in start]
    means, squares = [np.zeros_like(array) for array in weights], [np.zeros_like(array) for array in weights]
    total, peak, end = len(gradients), 0.01, 0.001
    warmup = math.floor(0.24 * total)
    for step, found in enumerate(gradients):
        norm = math.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in found))
        factor = min(1.0, 1.0 / (norm + 1e-6))
        if step < warmup:
            rate = peak * step / warmup
        else:
            rate = end + (peak - end) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        for i, raw in enumerate(found):
            gradient = raw.astype(np.float64) * factor
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.95 * squares[i] + 0.05 * gradient**2
            weights[i] = weights[i] - rate * (means[i] / (np.sqrt(squares[i]) + 1e-8) + 0.02 * weights[i])
    return weights


def trainer(model_folder: Path, run: Path) -> Trainer:
    examples = tiny.examples(tiny.tokenizer(), 24)
    run.mkdir(exist_ok=True)
    made = Trainer(tiny.tune(tiny.load(model_folder)), examples, SETTINGS, seed=3, run=run)
    made.plan = made.plan[:STEPS]
    return made


def copies(parameters: list[Any]) -> list[np.ndarray]:
    return [array.detach().numpy().copy() for array in parameters]


def test_training_matches_the_formulas(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(model_folder, tmp_path)
    assert len(made.plan) == STEPS
    start, gradients, clip = copies(made.parameters), [], nn.utils.clip_grad_norm_

    def watched(parameters: list[Any], norm: float) -> Any:
        gradients.append([array.grad.numpy().copy() for array in made.parameters])
        return clip(parameters, norm)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", watched)
    steps: list[StepRecord] = []
    made.run(steps.append)
    assert steps[0].learning_rate == 0
    assert min(step.grad_norm for step in steps) > 1  # every gradient was clipped
    for expected, found in zip(stated(start, gradients), copies(made.parameters), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert max(float(abs(a - b).max()) for a, b in zip(start, copies(made.parameters), strict=True)) > 0.03


def test_interrupted_training_ends_with_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    def crash(step: StepRecord) -> None:
        if step.step == 7:
            raise Crash

    trainer(model_folder, tmp_path / "whole").run(list[StepRecord]().append)
    with pytest.raises(Crash):
        trainer(model_folder, tmp_path / "cut").run(crash)
    trainer(model_folder, tmp_path / "cut").run(list[StepRecord]().append)
    places = [checkpoints.latest(tmp_path / name / "checkpoints") for name in ("whole", "cut")]
    for file in ("adapter_model.safetensors", "optimiser.safetensors"):
        first, second = (place / file for place in places if place is not None)
        assert first.read_bytes() == second.read_bytes()


def test_matches_values_from_mindspore() -> None:
    """Cumulative updates of nn.AdamWeightDecay (mindspore 2.9.0) with a learning rate of 0.01 and gradients of one."""
    parameter = nn.Parameter(torch.zeros(1))
    made = create_optimizer(nn.ParameterList([parameter]), TrainSection(optimizer="mindformers"))
    set_learning_rate(made, 0.01)
    found = []
    for _ in range(3):
        parameter.grad = torch.ones(1)
        made.step()
        found.append(parameter.item())
    assert found == pytest.approx([-0.00447, -0.01056, -0.01773], abs=5e-6)


def test_learning_rate_matches_a_contest_log() -> None:
    """The log has `Epoch:[1/5], step:[2/535] … lr: 1.25e-07`, for a peak of 1e-5 and a warm-up of 3 %."""
    settings = TrainSection(optimizer="mindformers", learning_rate=1e-5, warmup_share=0.03)
    assert learning_rate(1, 5 * 535, settings) == pytest.approx(1.25e-07, rel=1e-9)


@given(st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1), st.floats(1e-6, 1))
def test_warmup_starts_at_zero_and_the_final_rate_is_not_reached(
    total: int, warmup: float, final: float, peak: float
) -> None:
    settings = TrainSection(optimizer="mindformers", learning_rate=peak, warmup_share=warmup, final_rate_share=final)
    rates = [learning_rate(step, total, settings) for step in range(total)]
    climbed = int(warmup * total)
    assert rates[:climbed] == pytest.approx([peak * step / climbed for step in range(climbed)])
    assert rates[climbed] == pytest.approx(peak)
    assert all(
        later <= earlier * (1 + 1e-12) for earlier, later in zip(rates[climbed:], rates[climbed + 1 :], strict=False)
    )
    assert all(rate >= final * peak * (1 - 1e-12) for rate in rates[climbed:])


def test_parameters_without_gradient_do_not_change() -> None:
    def group() -> Iterator[nn.Parameter]:
        yield from (nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2)))

    moved, idle = group()
    made = create_optimizer(nn.ParameterList([moved, idle]), TrainSection(optimizer="mindformers", weight_decay=0.5))
    set_learning_rate(made, 0.1)
    moved.grad = torch.zeros(2)
    made.step()
    assert idle.tolist() == [1, 1]
    assert moved.tolist() == pytest.approx([0.95, 0.95])


def test_unknown_optimizer_suggests_a_known_one() -> None:
    with pytest.raises(RecipeError, match=r"train.optimizer.*mindformers"):
        parse({"data": {"synth": {"rows": 9}}, "train": {"optimizer": "MindFormer"}}, "a.yaml")


def test_lora_plus_is_supported(model_folder: Path) -> None:
    tuned = tiny.tune(tiny.load(model_folder))
    before = {name: p.detach().clone() for name, p in tuned.named_parameters() if p.requires_grad}
    made = create_optimizer(tuned, TrainSection(optimizer="mindformers", loraplus_ratio=4))
    set_learning_rate(made, 0.001)
    for parameter in tuned.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    made.step()
    for name, old in before.items():
        moved = (0.004 if ".lora_B." in name else 0.001) * 0.1 / math.sqrt(0.05)
        torch.testing.assert_close(old - tuned.get_parameter(name), torch.full_like(old, moved), rtol=0, atol=1e-6)
    assert adapters.count_parameters(tuned).trainable == sum(array.numel() for array in before.values())
