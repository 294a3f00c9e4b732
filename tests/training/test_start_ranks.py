"""Ranks from a start adapter learn at a fraction of the learning rate; new ranks learn at all of it."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.config import recipe as recipes
from keeptune.config.adapter import AdapterSection
from keeptune.config.train import TrainSection
from keeptune.errors import RecipeError
from keeptune.models import adapters
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.start_ranks import slow_start_ranks

START_RANKS, RATIO = 4, 0.1


def matrices(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in adapters.added_parameters(model).items()}


def stepped(folder: Path, start: Path, ratio: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The matrices before and after three AdamW steps along fixed gradients."""
    section = AdapterSection.model_validate({"rank": 7, "alpha": 14, "start": str(start)})
    model = adapters.attach(tiny.load(folder), section, seed=5)
    optimizer = create_optimizer(model, TrainSection())
    slow_start_ranks(optimizer, model, adapters.start_ranks(section), ratio)
    before, generator = matrices(model), torch.Generator().manual_seed(1)
    for _ in range(3):
        for parameter in adapters.added_parameters(model).values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_learning_rate(optimizer, 0.01)
        optimizer.step()
    return before, matrices(model)


def test_start_ranks_take_a_tenth_of_each_update(model_folder: Path, tmp_path: Path) -> None:
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model_folder), "lora")), tmp_path)
    before, whole = stepped(model_folder, tmp_path, 1.0)
    _, slowed = stepped(model_folder, tmp_path, RATIO)
    assert before
    for name, start in before.items():
        is_old = torch.arange(7) < START_RANKS
        ratio = torch.where(is_old, RATIO, 1.0)
        expected = start + (whole[name] - start) * (ratio[:, None] if "lora_A" in name else ratio)
        torch.testing.assert_close(slowed[name], expected, atol=1e-6, rtol=1e-5)
        assert not torch.equal(whole[name], start)


@pytest.mark.parametrize(
    ("adapter", "key"),
    [
        ({}, "adapter.start"),
        ({"start": "x", "family": "dora"}, "start_rate_ratio"),
    ],
)
def test_unsupported_settings_are_named(adapter: dict[str, Any], key: str) -> None:
    tree = {"data": {"synth": {"rows": 10}}, "adapter": {"start_rate_ratio": 0.5, **adapter}}
    with pytest.raises(RecipeError, match=key):
        recipes.parse(tree, "recipe.yaml")
