"""Training does not depend on how rows form batches, logs each step, and raises for rows without targets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.nn import functional

from keeptune.config.train import TrainSection
from keeptune.errors import TrainingError
from keeptune.training import checkpoints
from keeptune.training.batches import TokenizedExample
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective, collate

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
CPU = torch.device("cpu")


def watch_nothing(step: StepRecord) -> None:
    pass


def make_trainer(
    model_folder: Path,
    run: Path,
    settings: TrainSection,
    examples: list[TokenizedExample] = EXAMPLES,
    dropout: float = 0.0,
) -> Trainer:
    run.mkdir(exist_ok=True)
    return Trainer(tiny.tune(tiny.load(model_folder), dropout=dropout), examples, settings, seed=3, run=run)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Asserts equality up to 1e-5 of the largest gradient of each weight; smaller values are rounding of sums."""
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert (gradient - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max(), name


def test_step_weight_tokens_weights_steps_by_length(model_folder: Path, tmp_path: Path) -> None:
    def first_step(weight: str) -> tuple[StepRecord, int]:
        records: list[StepRecord] = []
        settings = tiny.settings(epochs=1, tokens_per_step=400, step_weight=weight)
        trainer = make_trainer(model_folder, tmp_path / weight, settings)
        trainer.run(records.append)
        return records[0], len(trainer.plan)

    (one, steps), (weighted, _) = map(first_step, ("one", "tokens"))
    longer = one.tokens * steps / sum(len(example.tokens) for example in EXAMPLES)
    assert abs(longer - 1) > 0.02
    assert weighted.grad_norm == pytest.approx(longer * one.grad_norm, rel=1e-5)
    assert weighted.loss == one.loss


def test_a_batch_equals_its_rows_one_by_one(model_folder: Path) -> None:
    tuned = tiny.tune(tiny.load(model_folder))
    inputs, kinds = collate(EXAMPLES[:7], 1.0, CPU)
    total, losses, _ = Objective(tuned)(*inputs)
    total.backward()
    batch_gradients, losses_by_row = (
        gradients(tuned),
        losses.split([sum(example.loss_mask) for example in EXAMPLES[:7]]),
    )
    tuned.zero_grad()
    for example, actual in zip(EXAMPLES[:7], losses_by_row, strict=True):
        tokens, is_target = torch.tensor(example.tokens), torch.tensor(example.loss_mask)
        # The reference: the model's own forward pass, and labels shifted by one.
        logits = tuned(input_ids=tokens[None]).logits[0, :-1][is_target[1:]]
        expected = functional.cross_entropy(logits, tokens[1:][is_target[1:]], reduction="none")
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        expected.sum().backward()
    assert kinds == [example.kind for example in EXAMPLES[:7] for is_target in example.loss_mask if is_target]
    assert_same(batch_gradients, gradients(tuned))


@pytest.mark.parametrize("tokens_per_batch", [1, 200, 600])
def test_a_step_does_not_depend_on_its_batches(model_folder: Path, tmp_path: Path, tokens_per_batch: int) -> None:
    def first_step(name: str, padded: int) -> StepRecord:
        records: list[StepRecord] = []
        one = tiny.settings(tokens_per_step=10**6, tokens_per_batch=padded, learning_rate=1e-9)
        trainer = make_trainer(model_folder, tmp_path / name, one)
        if name == "whole":
            trainer.plan = [[tuple(range(len(EXAMPLES)))]]
        assert len(trainer.plan) == 1 and len(trainer.plan[0]) >= (1 if name == "whole" else 8)
        trainer.run(records.append)
        return records[0]

    whole, parts = first_step("whole", 10**6), first_step("parts", tokens_per_batch)
    assert parts.tokens == whole.tokens == sum(len(example.tokens) for example in EXAMPLES)
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    assert parts.loss_by_kind == pytest.approx(whole.loss_by_kind, abs=1e-5)


def test_gradients_of_many_batches_equal_those_of_one(model_folder: Path) -> None:
    tuned = tiny.tune(tiny.load(model_folder))
    model = Objective(tuned)
    supervised = sum(sum(example.loss_mask) for example in EXAMPLES)

    def summed(size: int) -> dict[str, torch.Tensor]:
        tuned.zero_grad()
        for start in range(0, len(EXAMPLES), size):
            inputs, _ = collate(EXAMPLES[start : start + size], 1 / supervised, CPU)
            model(*inputs)[0].backward()
        return gradients(tuned)

    whole = summed(len(EXAMPLES))
    assert any(bool(gradient.abs().max() > 1e-3) for gradient in whole.values())
    for size in (1, 5):
        assert_same(summed(size), whole)


def test_training_reduces_the_loss_of_every_kind(model_folder: Path, tmp_path: Path) -> None:
    records: list[StepRecord] = []
    settings = tiny.settings(tokens_per_step=10**6, tokens_per_batch=2000, epochs=25, learning_rate=0.05)
    progress = make_trainer(model_folder, tmp_path, settings).run(records.append)
    assert records[-1].loss < 0.7 * records[0].loss
    assert all(loss < records[0].loss_by_kind[kind] for kind, loss in records[-1].loss_by_kind.items())
    assert (progress.step, progress.tokens) == (25, 25 * sum(len(example.tokens) for example in EXAMPLES))


def test_only_the_adapter_is_trained(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path, tiny.settings())
    before = {name: parameter.clone() for name, parameter in trainer.peft_model.named_parameters()}
    trainer.run(watch_nothing)
    for name, parameter in trainer.peft_model.named_parameters():
        assert torch.equal(parameter, before[name]) is (".lora_" not in name), name


def test_every_step_is_logged(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path, tiny.settings(score_every_steps=3))
    trainer.run(watch_nothing, lambda step: {"accuracy": step / 10})
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    training_events = [event for event in events if event["event"] == "train"]
    assert [event["step"] for event in training_events] == list(range(1, len(trainer.plan) + 1))
    assert training_events[-1]["tokens"] == sum(trainer.lengths)
    for event in training_events:
        assert min(event["loss_by_kind"].values()) <= event["loss"] <= max(event["loss_by_kind"].values())
    assert max(event["learning_rate"] for event in training_events) == pytest.approx(0.01)
    scored = {event["step"]: event["accuracy"] for event in events if event["event"] == "score"}
    assert scored == {step: step / 10 for step in range(3, len(trainer.plan), 3)}


def test_early_stopping_ends_training(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path, tiny.settings(score_every_steps=2))
    scored_steps: list[int] = []

    def score_step(step: int) -> dict[str, Any]:
        scored_steps.append(step)
        return {}

    reached = trainer.run(watch_nothing, score_step, lambda: len(scored_steps) == 2)
    assert (reached.step, scored_steps) == (4, [2, 4])
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "step-4"
    # A training that resumes after the last score stops again.
    resumed_trainer = make_trainer(model_folder, tmp_path, tiny.settings(score_every_steps=2))
    resumed = resumed_trainer.run(watch_nothing, score_step, lambda: True)
    assert replace(resumed, rows_sha256=None) == reached


def test_a_row_without_targets_raises(model_folder: Path, tmp_path: Path) -> None:
    untrainable = TokenizedExample("rows.jsonl:77", "add", (5, 6, 7), (False, False, False))
    with pytest.raises(TrainingError, match=r"rows\.jsonl:77: no target"):
        make_trainer(model_folder, tmp_path, tiny.settings(), [*EXAMPLES, untrainable])


def test_a_non_finite_loss_names_its_rows_and_saves_nothing(model_folder: Path, tmp_path: Path) -> None:
    bad = TokenizedExample("rows.jsonl:666", "add", (5, WORDS.bos_token_id, 7, 8), (False, True, True, True))
    settings = tiny.settings(tokens_per_batch=1, checkpoint_every_steps=1)
    trainer = make_trainer(model_folder, tmp_path, settings, [*EXAMPLES, bad])
    trainer.peft_model.get_input_embeddings().weight.data[WORDS.bos_token_id] = float("nan")
    with pytest.raises(TrainingError) as caught:
        trainer.run(watch_nothing)
    steps = [number for number, step in enumerate(trainer.plan) if (len(EXAMPLES),) in step]
    message = str(caught.value)
    assert f"step {steps[0] + 1}: the loss" in message
    assert "rows.jsonl:666" in message and "train.learning_rate" in message
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert (newest.name if newest else "step-0") == f"step-{steps[0]}"


def test_a_non_finite_gradient_changes_no_weight(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_folder, tmp_path, tiny.settings())
    trainer.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    before = [parameter.clone() for parameter in trainer.parameters]
    with pytest.raises(TrainingError, match=r"step 1: the gradient.*Rows: "):
        trainer.run(watch_nothing)
    assert all(torch.equal(*pair) for pair in zip(trainer.parameters, before, strict=True))
    assert not (tmp_path / "checkpoints").exists()
