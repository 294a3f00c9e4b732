"""Every adapter family learns, trains nothing but itself, and goes on after a crash to the same bytes."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.config.train import TrainSection
from keeptune.errors import RunError
from keeptune.models import adapter as adapters
from keeptune.training import checkpoints as checkpoint
from keeptune.training.loop import Step, Trainer

EXAMPLES = [example for example in tiny.examples(tiny.tokenizer(), 16) if len(example.tokens) < 250]
every_family = pytest.mark.parametrize("family", tiny.FAMILIES)


class Crash(BaseException):
    """Ends a training as abruptly as a test can without ending itself."""


def watch_nothing(step: Step) -> None:
    pass


def trainer(model: Any, family: str, run: Path, settings: TrainSection, **adapter: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    return Trainer(tiny.tune_as(model, family, **adapter), EXAMPLES, settings, seed=3, run=run)


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_goes_down_and_only_the_adapter_changes(
    family: str, dtype: torch.dtype, model_folder: Path, tmp_path: Path
) -> None:
    rate = {"vera": 0.1, "ia3": 0.1, "pissa": 0.01}.get(family, 0.03)
    settings = tiny.settings(tokens_per_step=10**6, tokens_per_batch=2000, epochs=12, learning_rate=rate)
    made = trainer(tiny.load(model_folder).to(dtype), family, tmp_path, settings)
    trained = {name for name, parameter in made.peft_model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.clone() for name, parameter in made.peft_model.named_parameters()}
    seen: list[Step] = []
    made.run(seen.append)
    assert seen[-1].loss < 0.9 * seen[0].loss
    for name, parameter in made.peft_model.named_parameters():
        assert torch.equal(parameter, before[name]) is (name not in trained), name


def left(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint that decide how training would go on, and what is handed over."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    timed = ("progress.json", checkpoint.COMPLETE)
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
def test_a_crash_changes_nothing(
    family: str, adapter: dict[str, Any], train: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    settings = tiny.settings(**train)

    def run(folder: str, crash_at: int = 0) -> None:
        def crash(step: Step) -> None:
            if step.step == crash_at:
                raise Crash

        trainer(tiny.load(model_folder), family, tmp_path / folder, settings, **adapter).run(crash)

    run("whole")
    with pytest.raises(Crash):
        run("broken", crash_at=3)
    resumed_from = checkpoint.latest(tmp_path / "broken" / "checkpoints")
    assert resumed_from is not None and resumed_from.name == "step-2"
    run("broken")
    assert left(tmp_path / "broken") == left(tmp_path / "whole")


def test_lora_plus_learns_otherwise(model_folder: Path, tmp_path: Path) -> None:
    for name, ratio in (("a", 1.0), ("b", 8.0)):
        settings = tiny.settings(loraplus_ratio=ratio)
        trainer(tiny.load(model_folder), "lora", tmp_path / name, settings).run(watch_nothing)
    assert left(tmp_path / "a")["step"] == left(tmp_path / "b")["step"]
    assert left(tmp_path / "a")["adapter_model.safetensors"] != left(tmp_path / "b")["adapter_model.safetensors"]


@every_family
def test_a_checkpoint_of_another_family_is_refused(family: str, model_folder: Path, tmp_path: Path) -> None:
    made = trainer(tiny.load(model_folder), family, tmp_path, tiny.settings())
    checkpoint.save(tmp_path, made.peft_model, made.optimiser, checkpoint.Progress(1, 0, 0.0))
    other = trainer(tiny.load(model_folder), "ia3" if family == "pissa" else "pissa", tmp_path, tiny.settings())
    with pytest.raises(RunError, match="it holds another adapter than the recipe asks for; use a new run directory"):
        checkpoint.restore(tmp_path / "step-1", other.peft_model, other.optimiser)


def test_every_checkpoint_of_pissa_is_a_plain_lora(model_folder: Path, tmp_path: Path) -> None:
    made = trainer(tiny.load(model_folder), "pissa", tmp_path, tiny.settings())
    made.run(watch_nothing)
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None
    loaded, ids = adapters.load_adapter(tiny.load(model_folder), newest), torch.arange(2, 30)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, made.peft_model.eval()(input_ids=ids).logits)
