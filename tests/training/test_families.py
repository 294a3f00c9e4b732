"""Every adapter family learns, changes only its own parameters, and resumes after a crash to the same bytes."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.config.train import TrainSection
from keeptune.errors import RunError
from keeptune.models import adapters
from keeptune.training import checkpoints
from keeptune.training.loop import StepRecord, Trainer

EXAMPLES = [example for example in tiny.examples(tiny.tokenizer(), 16) if len(example.tokens) < 250]
every_family = pytest.mark.parametrize("family", tiny.FAMILIES)


class Crash(BaseException):
    """Simulates a crash."""


def watch_nothing(step: StepRecord) -> None:
    pass


def make_trainer(model: Any, family: str, run: Path, settings: TrainSection, **adapter: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    return Trainer(tiny.tune_as(model, family, **adapter), EXAMPLES, settings, seed=3, run=run)


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_decreases_and_only_the_adapter_changes(
    family: str, dtype: torch.dtype, model_folder: Path, tmp_path: Path
) -> None:
    rate = {"vera": 0.1, "ia3": 0.1, "pissa": 0.01}.get(family, 0.03)
    settings = tiny.settings(tokens_per_step=10**6, tokens_per_batch=2000, epochs=12, learning_rate=rate)
    trainer = make_trainer(tiny.load(model_folder).to(dtype), family, tmp_path, settings)
    trainable = {name for name, parameter in trainer.peft_model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.clone() for name, parameter in trainer.peft_model.named_parameters()}
    records: list[StepRecord] = []
    trainer.run(records.append)
    assert records[-1].loss < 0.9 * records[0].loss
    for name, parameter in trainer.peft_model.named_parameters():
        assert torch.equal(parameter, before[name]) is (name not in trainable), name


def checkpoint_files(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint, except those with timings."""
    newest = checkpoints.latest(run / "checkpoints")
    assert newest is not None
    timed = ("progress.json", checkpoints.COMPLETE)
    files = {path.name: path.read_bytes() for path in newest.iterdir() if path.name not in timed}
    assert set(files) >= {"adapter_model.safetensors", "adapter_config.json", "optimiser.safetensors"}
    return {"step": newest.name.encode(), **files}


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{family: (family, {}, {}) for family in tiny.FAMILIES if family != "lora"},
    "lora+": ("lora", {}, {"loraplus_ratio": 8}),
    "dora with dropout, lora+": ("dora", {"dropout": 0.2}, {"loraplus_ratio": 8}),
    "pissa+": ("pissa", {}, {"loraplus_ratio": 8}),
    "vera with dropout": ("vera", {"dropout": 0.2}, {}),
    "second layer alone": ("lora", {"layers": [1, 1]}, {}),
}


@pytest.mark.parametrize(("family", "adapter", "train"), CASES.values(), ids=CASES.keys())
def test_a_crash_does_not_change_the_result(
    family: str, adapter: dict[str, Any], train: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    settings = tiny.settings(**train)

    def run(folder: str, crash_at: int = 0) -> None:
        def crash(step: StepRecord) -> None:
            if step.step == crash_at:
                raise Crash

        make_trainer(tiny.load(model_folder), family, tmp_path / folder, settings, **adapter).run(crash)

    run("whole")
    with pytest.raises(Crash):
        run("broken", crash_at=3)
    resumed_from = checkpoints.latest(tmp_path / "broken" / "checkpoints")
    assert resumed_from is not None and resumed_from.name == "step-2"
    run("broken")
    assert checkpoint_files(tmp_path / "broken") == checkpoint_files(tmp_path / "whole")


def test_lora_plus_changes_the_result(model_folder: Path, tmp_path: Path) -> None:
    for name, ratio in (("a", 1.0), ("b", 8.0)):
        settings = tiny.settings(loraplus_ratio=ratio)
        make_trainer(tiny.load(model_folder), "lora", tmp_path / name, settings).run(watch_nothing)
    assert checkpoint_files(tmp_path / "a")["step"] == checkpoint_files(tmp_path / "b")["step"]
    assert (
        checkpoint_files(tmp_path / "a")["adapter_model.safetensors"]
        != checkpoint_files(tmp_path / "b")["adapter_model.safetensors"]
    )


@every_family
def test_a_checkpoint_of_another_family_raises(family: str, model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tiny.load(model_folder), family, tmp_path, tiny.settings())
    checkpoints.save(tmp_path, trainer.peft_model, trainer.engine.optimizer, checkpoints.Progress(1, 0, 0.0))
    other = make_trainer(tiny.load(model_folder), "ia3" if family == "pissa" else "pissa", tmp_path, tiny.settings())
    with pytest.raises(RunError, match="holds another adapter"):
        checkpoints.restore(tmp_path / "step-1", other.peft_model, other.engine.optimizer)


def test_every_checkpoint_of_pissa_is_a_plain_lora(model_folder: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tiny.load(model_folder), "pissa", tmp_path, tiny.settings())
    trainer.run(watch_nothing)
    newest = checkpoints.latest(tmp_path / "checkpoints")
    assert newest is not None
    loaded, ids = adapters.load_adapter(tiny.load(model_folder), newest), torch.arange(2, 30)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, trainer.peft_model.eval()(input_ids=ids).logits)
