"""The learning rate climbs in a line, descends as half a cosine, and is a function of the step alone."""

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
from keeptune.models import adapter as adapters
from keeptune.training.optimizer import learning_rate, optimiser, set_rate


def rates(total: int, settings: TrainSection) -> list[float]:
    return [learning_rate(step, total, settings) for step in range(total)]


def test_the_shape_by_hand() -> None:
    settings = TrainSection(learning_rate=1.0, warmup_share=0.2, final_rate_share=0.0)
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8))]
    assert rates(10, settings) == pytest.approx(expected)
    halfway = TrainSection(learning_rate=2.0, warmup_share=0.0, final_rate_share=0.5)
    assert rates(4, halfway) == pytest.approx([2.0, 1 + 0.5 * (1 + math.cos(math.pi / 4)), 1.5, 1.1464466], rel=1e-6)


@given(st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1), st.floats(1e-6, 1))
def test_up_to_the_peak_then_down_to_the_final_share(total: int, warmup: float, final: float, peak: float) -> None:
    settings = TrainSection(learning_rate=peak, warmup_share=warmup, final_rate_share=final)
    found = rates(total, settings)
    top = found.index(max(found))
    assert found[top] == pytest.approx(peak)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in zip(found[top:], found[top + 1 :], strict=False))
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in found)
    assert all(rate >= final * peak * (1 - 1e-12) for rate in found[top:])
    climbed = math.ceil(warmup * total)
    assert found[:climbed] == pytest.approx([peak * (step + 1) / climbed for step in range(climbed)])


def test_adamw_as_the_recipe_says() -> None:
    parameter = nn.Parameter(torch.ones(3))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    made = optimiser(nn.ParameterList([frozen, parameter]), TrainSection(weight_decay=0.3))
    assert isinstance(made, torch.optim.AdamW)
    [group] = made.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.95), 0.3)
    assert [id(own) for own in group["params"]] == [id(parameter)]
    parameter.grad = torch.tensor([1.0, -2.0, 0.0])
    made.step()
    assert parameter.tolist() == [1.0, 1.0, 1.0]  # the loop sets the rate; until then nothing moves
    set_rate(made, 0.1)
    made.step()
    assert parameter.tolist() == pytest.approx([0.97 - 0.1, 0.97 + 0.1, 0.97], abs=1e-6)


@pytest.mark.parametrize("family", ["lora", "rslora", "dora", "pissa"])
def test_lora_plus_gives_b_its_multiple_of_the_rate(model_folder: Path, family: Any) -> None:
    tuned = adapters.attach(tiny.load(model_folder), AdapterSection(family=family, rank=4), seed=0)
    made = optimiser(tuned, TrainSection(loraplus_ratio=16))
    set_rate(made, 0.001)
    names = {id(parameter): name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    rates = {names.pop(id(p)): group["lr"] for group in made.param_groups for p in group["params"]}
    assert names == {}
    assert {rate for name, rate in rates.items() if ".lora_B." in name} == {0.016}
    # DoRA's magnitudes are neither A nor B.
    assert {rate for name, rate in rates.items() if ".lora_B." not in name} == {0.001}


def test_the_first_step_moves_b_by_its_multiple(model_folder: Path) -> None:
    tuned = adapters.attach(tiny.load(model_folder), AdapterSection(rank=4), seed=0)
    before = {name: p.detach().clone() for name, p in tuned.named_parameters() if p.requires_grad}
    made = optimiser(tuned, TrainSection(loraplus_ratio=8))
    set_rate(made, 0.001)
    for parameter in tuned.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    made.step()
    for name, old in before.items():
        moved = 0.008 if ".lora_B." in name else 0.001
        torch.testing.assert_close(old - tuned.get_parameter(name), torch.full_like(old, moved), rtol=0, atol=1e-6)
