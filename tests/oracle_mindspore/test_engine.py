"""The MindSpore engine against torch: the same batches, losses, adapter and checkpoints.

MindSpore needs numpy < 2 and a separate Python, which KEEPTUNE_MINDSPORE_PYTHON names. Otherwise the tests are skipped.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.errors import TrainingError
from keeptune.mindspore.step_engine import MindSporeEngine
from keeptune.mindspore.workers import PYTHON, WORKERS
from keeptune.training import checkpoints
from keeptune.training.loop import StepRecord, Trainer

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not name a Python with mindspore")

TOKENIZER = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(TOKENIZER, 24) if len(example.tokens) < 250]
STEPS = 30


ENGINES = ("torch", "mindspore")


def make_trainer(name: str, folder: Path, run: Path, model: Any = None, **changes: Any) -> Trainer:
    """A trainer of the same rows and, by default, 31 steps, with the engine of this name."""
    run.mkdir(exist_ok=True)
    model = model or tiny.tune(tiny.load(folder))
    defaults = {"learning_rate": 0.003, "tokens_per_step": 300, "tokens_per_batch": 200, "epochs": 4}
    settings = tiny.settings(**{**defaults, **changes})
    engine = MindSporeEngine(model, EXAMPLES, settings, run) if name == "mindspore" else None
    return Trainer(model, EXAMPLES, settings, seed=3, run=run, engine=engine)


def run_steps(trainer: Trainer) -> list[StepRecord]:
    steps: list[StepRecord] = []
    trainer.run(steps.append)
    return steps


def parameters(trainer: Trainer) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in trainer.parameters]


@pytest.mark.parametrize(
    "changes",
    [{"weight_decay": 0.1}, {"optimizer": "mindformers"}, {"loraplus_ratio": 16.0, "learning_rate": 0.0005}],
    ids=["adamw", "mindformers", "loraplus"],
)
def test_engines_train_alike(model_folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    trainers = [make_trainer(name, model_folder, tmp_path / name, **changes) for name in ENGINES]
    expected, actual = (run_steps(trainer) for trainer in trainers)
    assert len(expected) == len(actual) >= STEPS
    assert expected[-1].loss < 0.95 * expected[0].loss
    for torch_step, step in zip(expected, actual, strict=True):
        assert (step.step, step.tokens) == (torch_step.step, torch_step.tokens)
        assert step.learning_rate == torch_step.learning_rate
        assert step.loss == pytest.approx(torch_step.loss, rel=1e-4)
        assert step.loss_by_kind == pytest.approx(torch_step.loss_by_kind, rel=1e-4)
        assert step.grad_norm == pytest.approx(torch_step.grad_norm, rel=1e-3)
    for torch_parameter, parameter in zip(*map(parameters, trainers), strict=True):
        torch.testing.assert_close(parameter, torch_parameter, atol=1e-4, rtol=1e-3)


def test_two_processes_match_one(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make_trainer("torch", model_folder, tmp_path / "one", epochs=1)
    expected = run_steps(reference)
    monkeypatch.setenv(WORKERS, "2")
    parallel = make_trainer("mindspore", model_folder, tmp_path / "two", epochs=1)
    steps = run_steps(parallel)
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=1e-4)
    for parameter, torch_parameter in zip(parameters(parallel), parameters(reference), strict=True):
        torch.testing.assert_close(parameter, torch_parameter, atol=1e-4, rtol=1e-3)


def test_tied_embeddings_and_scaled_positions(tmp_path: Path) -> None:
    """Llama 3.2's architecture: tied embeddings, an explicit head size, scaled rotary positions."""
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = tiny.config(len(TOKENIZER), tie_word_embeddings=True, head_dim=16, rope_parameters=rope)
    torch.manual_seed(0)
    tiny.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    losses = []
    for name in ENGINES:
        steps = run_steps(make_trainer(name, tmp_path / "model", tmp_path / name, epochs=0.5))
        losses.append([step.loss for step in steps])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("first", ENGINES)
def test_each_engine_resumes_the_other_s_checkpoint(model_folder: Path, tmp_path: Path, first: str) -> None:
    uninterrupted = make_trainer("torch", model_folder, tmp_path / "whole")
    expected = run_steps(uninterrupted)
    interrupted = make_trainer(first, model_folder, tmp_path / "run", checkpoint_every_steps=10)

    def stop(step: StepRecord) -> None:
        if step.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.run(stop)
    assert [path.name for path in checkpoints.list_complete(tmp_path / "run" / "checkpoints")] == ["step-10"]
    (other,) = set(ENGINES) - {first}
    resumed = make_trainer(other, model_folder, tmp_path / "run")
    steps = run_steps(resumed)
    assert [step.step for step in steps] == list(range(11, len(expected) + 1))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected[10:]], rel=1e-4)
    for parameter, expected_parameter in zip(parameters(resumed), parameters(uninterrupted), strict=True):
        torch.testing.assert_close(parameter, expected_parameter, atol=1e-4, rtol=1e-3)


def test_non_finite_loss_names_the_rows(model_folder: Path, tmp_path: Path) -> None:
    model = tiny.tune(tiny.load(model_folder))
    with torch.no_grad():
        model.get_input_embeddings().weight[EXAMPLES[0].tokens[3]] = float("nan")
    with pytest.raises(TrainingError, match=r"step 1.*not finite.*Rows: "):
        run_steps(make_trainer("mindspore", model_folder, tmp_path / "run", model))


def test_killed_engine_raises(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer("mindspore", model_folder, tmp_path / "run")
    engine = trainer.engine
    assert isinstance(engine, MindSporeEngine)

    def kill(step: StepRecord) -> None:
        if step.step == 2:
            engine.workers.processes[0].process.kill()

    with pytest.raises(TrainingError, match=r"MindSpore .* code -9"):
        trainer.run(kill)
