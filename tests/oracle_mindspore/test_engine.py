"""The MindSpore engine beside torch's: the same batches, the same losses, the same adapter, the same checkpoints.

MindSpore needs numpy below 2 and goes into a Python of its own. Where that is, KEEPTUNE_MINDSPORE_PYTHON says; without
it these tests are skipped.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.errors import TrainingError
from keeptune.mindspore.trainer import MindSporeTrainer
from keeptune.mindspore.workers import PYTHON, WORKERS
from keeptune.training import checkpoints
from keeptune.training.loop import StepRecord, Trainer

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with mindspore")

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
STEPS = 30


def trainer(kind: type[Trainer], folder: Path, run: Path, model: Any = None, **changes: Any) -> Trainer:
    """Thirty-one steps of the same rows."""
    run.mkdir(exist_ok=True)
    settings = {"learning_rate": 0.003, "tokens_per_step": 300, "tokens_per_batch": 200, "epochs": 4, **changes}
    return kind(model or tiny.tune(tiny.load(folder)), EXAMPLES, tiny.settings(**settings), seed=3, run=run)


def trained(made: Trainer) -> list[StepRecord]:
    steps: list[StepRecord] = []
    made.run(steps.append)
    return steps


def parameters(made: Trainer) -> list[torch.Tensor]:
    return [own.detach() for own in made.gradient.parameters]


@pytest.mark.parametrize(
    "changes",
    [{"weight_decay": 0.1}, {"optimizer": "mindformers"}, {"loraplus_ratio": 16.0, "learning_rate": 0.0005}],
    ids=["adamw", "mindformers", "loraplus"],
)
def test_both_engines_train_alike(model_folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    made = [trainer(kind, model_folder, tmp_path / kind.__name__, **changes) for kind in (Trainer, MindSporeTrainer)]
    ours, theirs = (trained(one) for one in made)
    assert len(ours) == len(theirs) >= STEPS
    assert ours[-1].loss < 0.95 * ours[0].loss
    for one, other in zip(ours, theirs, strict=True):
        assert (one.step, one.tokens, one.learning_rate) == (other.step, other.tokens, other.learning_rate)
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert other.loss_by_kind == pytest.approx(one.loss_by_kind, rel=1e-4)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-3)
    for own, its in zip(*map(parameters, made), strict=True):
        torch.testing.assert_close(its, own, atol=1e-4, rtol=1e-3)


def test_two_processes_take_the_steps_of_one(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(Trainer, model_folder, tmp_path / "one", epochs=1)
    expected = trained(made)
    monkeypatch.setenv(WORKERS, "2")
    both = trainer(MindSporeTrainer, model_folder, tmp_path / "two", epochs=1)
    steps = trained(both)
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=1e-4)
    for own, its in zip(parameters(both), parameters(made), strict=True):
        torch.testing.assert_close(own, its, atol=1e-4, rtol=1e-3)


def test_tied_embeddings_and_another_turn_of_positions(tmp_path: Path) -> None:
    """Llama 3.2's shape: one matrix for words in and out, heads of their own size, positions that turn slower."""
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = tiny.config(len(WORDS), tie_word_embeddings=True, head_dim=16, rope_parameters=rope)
    torch.manual_seed(0)
    tiny.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    losses = []
    for kind in (Trainer, MindSporeTrainer):
        steps = trained(trainer(kind, tmp_path / "model", tmp_path / kind.__name__, epochs=0.5))
        losses.append([step.loss for step in steps])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("first", [Trainer, MindSporeTrainer])
def test_what_one_engine_saved_the_other_goes_on_with(model_folder: Path, tmp_path: Path, first: type[Trainer]) -> None:
    whole = trainer(Trainer, model_folder, tmp_path / "whole")
    expected = trained(whole)
    begun = trainer(first, model_folder, tmp_path / "run", checkpoint_every_steps=10)

    def stop(step: StepRecord) -> None:
        if step.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun.run(stop)
    assert [path.name for path in checkpoints.list_complete(tmp_path / "run" / "checkpoints")] == ["step-10"]
    other = MindSporeTrainer if first is Trainer else Trainer
    rest = trainer(other, model_folder, tmp_path / "run")
    steps = trained(rest)
    assert [step.step for step in steps] == list(range(11, len(expected) + 1))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected[10:]], rel=1e-4)
    for own, its in zip(parameters(rest), parameters(whole), strict=True):
        torch.testing.assert_close(own, its, atol=1e-4, rtol=1e-3)


def test_a_loss_that_is_not_finite_names_its_rows(model_folder: Path, tmp_path: Path) -> None:
    model = tiny.tune(tiny.load(model_folder))
    with torch.no_grad():
        model.get_input_embeddings().weight[EXAMPLES[0].tokens[3]] = float("nan")
    with pytest.raises(TrainingError, match=r"step 1: the loss is not finite.*Rows: "):
        trained(trainer(MindSporeTrainer, model_folder, tmp_path / "run", model))


def test_an_engine_that_ends_is_told_with_what_it_said(model_folder: Path, tmp_path: Path) -> None:
    made = trainer(MindSporeTrainer, model_folder, tmp_path / "run")
    assert isinstance(made, MindSporeTrainer)

    def kill(step: StepRecord) -> None:
        if step.step == 2:
            made.workers._started[0].process.kill()

    with pytest.raises(TrainingError, match=r"MindSpore ended with code -9"):
        made.run(kill)
