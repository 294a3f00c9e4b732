"""The learning rate has a linear warm-up and a cosine decay, and depends on the step alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from keeptune.config.adapter import AdapterSection
from keeptune.config.train import TrainSection
from keeptune.models import adapters
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.schedule import learning_rate


def rates(total: int, settings: TrainSection) -> list[float]:
    return [learning_rate(step, total, settings) for step in range(total)]


def test_schedule_by_hand() -> None:
    settings = TrainSection(learning_rate=1.0, warmup_share=0.2, final_rate_share=0.0)
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8))]
    assert rates(10, settings) == pytest.approx(expected)
    halfway = TrainSection(learning_rate=2.0, warmup_share=0.0, final_rate_share=0.5)
    assert rates(4, halfway) == pytest.approx([2.0, 1 + 0.5 * (1 + math.cos(math.pi / 4)), 1.5, 1.1464466], rel=1e-6)


@given(st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1), st.floats(1e-6, 1))
def test_warmup_to_the_peak_then_decay_to_the_final_share(total: int, warmup: float, final: float, peak: float) -> None:
    settings = TrainSection(learning_rate=peak, warmup_share=warmup, final_rate_share=final)
    schedule = rates(total, settings)
    top = schedule.index(max(schedule))
    assert schedule[top] == pytest.approx(peak)
    assert schedule[: top + 1] == sorted(schedule[: top + 1])
    assert all(
        later <= earlier * (1 + 1e-12) for earlier, later in zip(schedule[top:], schedule[top + 1 :], strict=False)
    )
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in schedule)
    assert all(rate >= final * peak * (1 - 1e-12) for rate in schedule[top:])
    warmup_steps = math.ceil(warmup * total)
    assert schedule[:warmup_steps] == pytest.approx([peak * (step + 1) / warmup_steps for step in range(warmup_steps)])


def test_adamw_has_the_recipes_options() -> None:
    parameter = nn.Parameter(torch.ones(3))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = create_optimizer(nn.ParameterList([frozen, parameter]), TrainSection(weight_decay=0.3))
    assert isinstance(optimizer, torch.optim.AdamW)
    [group] = optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.95), 0.3)
    assert [id(p) for p in group["params"]] == [id(parameter)]
    parameter.grad = torch.tensor([1.0, -2.0, 0.0])
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0, 1.0]  # the learning rate is 0 until the loop sets it
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    assert parameter.tolist() == pytest.approx([0.97 - 0.1, 0.97 + 0.1, 0.97], abs=1e-6)


@pytest.mark.parametrize("family", ["lora", "rslora", "dora", "pissa"])
def test_lora_plus_multiplies_the_rate_of_b(model_folder: Path, family: Any) -> None:
    tuned = adapters.attach(tiny.load(model_folder), AdapterSection(family=family, rank=4), seed=0)
    optimizer = create_optimizer(tuned, TrainSection(loraplus_ratio=16))
    set_learning_rate(optimizer, 0.001)
    names = {id(parameter): name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    rates = {names.pop(id(p)): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert names == {}
    assert {rate for name, rate in rates.items() if ".lora_B." in name} == {0.016}
    # DoRA's magnitudes belong to neither A nor B.
    assert {rate for name, rate in rates.items() if ".lora_B." not in name} == {0.001}


def test_the_first_step_of_lora_plus_moves_b_by_the_multiple(model_folder: Path) -> None:
    tuned = adapters.attach(tiny.load(model_folder), AdapterSection(rank=4), seed=0)
    before = {name: p.detach().clone() for name, p in tuned.named_parameters() if p.requires_grad}
    optimizer = create_optimizer(tuned, TrainSection(loraplus_ratio=8))
    set_learning_rate(optimizer, 0.001)
    for parameter in tuned.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    for name, old in before.items():
        moved = 0.008 if ".lora_B." in name else 0.001
        torch.testing.assert_close(old - tuned.get_parameter(name), torch.full_like(old, moved), rtol=0, atol=1e-6)
