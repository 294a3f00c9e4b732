"""The weight of the KL term follows the budget, and resumed training continues with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from training.test_loop import EXAMPLES

from keeptune.config.retain import RetainSection
from keeptune.training.kl_budget import next_weight
from keeptune.training.loop import StepRecord, Trainer

SETTINGS = tiny.settings(epochs=2, checkpoint_every_steps=2)

positive = st.floats(1e-6, 1e6)


@given(positive, positive, positive)
def test_a_step_moves_the_weight_towards_the_budget(weight: float, divergence: float, budget: float) -> None:
    moved = next_weight(weight, divergence, budget)
    assert 0.979 * weight < moved < 1.021 * weight
    if divergence > budget * 1.001:
        assert moved > weight
    if divergence < budget * 0.999:
        assert moved < weight
    assert next_weight(weight, budget, budget) == weight


@given(st.floats(0.01, 100), st.floats(0.001, 10))
def test_a_divergence_that_falls_with_the_weight_reaches_the_budget(start: float, budget: float) -> None:
    """In a model in which divergence · weight is constant, the divergence settles at the budget."""
    weight = start
    for _ in range(2_000):
        weight = next_weight(weight, 1 / weight, budget)
    assert 1 / weight == pytest.approx(budget, rel=0.01)


def train(folder: Path, run: Path, budget: float, stop_at: int | None = None) -> list[StepRecord]:
    run.mkdir(exist_ok=True)
    retain = RetainSection(kl_tokens="prompts", kl_weight=0.5, kl_budget=budget)
    records: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        records.append(record)
        if record.step == stop_at:
            raise KeyboardInterrupt

    trainer = Trainer(tiny.tune(tiny.load(folder)), EXAMPLES, SETTINGS, seed=3, run=run, retain=retain)
    trainer.run(on_step)
    return records


def figures(records: list[StepRecord]) -> list[Any]:
    return [(record.step, record.loss, record.divergence, record.kl_weight) for record in records]


def test_the_weight_falls_below_a_large_budget_and_grows_above_a_small_one(model_folder: Path, tmp_path: Path) -> None:
    large, small = (train(model_folder, tmp_path / str(budget), budget) for budget in (1e6, 1e-9))
    assert [record.kl_weight for record in large][:3] == pytest.approx([0.5, 0.5 * 0.98, 0.5 * 0.98**2])
    assert [record.kl_weight for record in small][:3] == pytest.approx([0.5, 0.5 * 1.02, 0.5 * 1.02**2])


def test_resuming_continues_with_the_same_weights(model_folder: Path, tmp_path: Path) -> None:
    whole = train(model_folder, tmp_path / "whole", 1e-9)
    with pytest.raises(KeyboardInterrupt):
        train(model_folder, tmp_path / "parts", 1e-9, stop_at=3)
    assert figures(train(model_folder, tmp_path / "parts", 1e-9)) == figures(whole)[2:]


def test_a_budget_needs_a_weight_to_start_with() -> None:
    with pytest.raises(ValueError, match="kl_weight"):
        RetainSection(kl_budget=0.05)
