"""An adapter that went to MindFormers' layout comes back the same, and one that does not fit does not come in."""

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from keeptune.errors import ModelError, RecipeError, RunError
from keeptune.export.exporter import export
from keeptune.mindspore import ckpt
from keeptune.mindspore.import_adapter import adopt
from keeptune.models import adapter_metadata, adapters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned model as MindSpore checkpoints; the adapter that it was made from lies beside it."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "adapter").mkdir()
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), "lora")), folder / "adapter")
    card = adapter_metadata.AdapterMetadata(str(model), "arithmetic", tiny.PROMPT, {}, scale=1.0, dtype="float32")
    adapter_metadata.save(card, folder / "adapter")
    export(str(folder / "adapter"), "mindspore", folder / "out")
    return folder


def bring(model: Path, exported: Path, out: Path, yaml: str | None = None, checkpoint: Path | None = None) -> None:
    configuration = out.with_suffix(".yaml")
    configuration.write_text(yaml or (exported / "out" / "pet_config.yaml").read_text())
    path = checkpoint or exported / "out" / "adapter.ckpt"
    adopt(path, configuration, str(model), "arithmetic", tiny.PROMPT, out)


def test_it_comes_back_as_it_went(model: Path, exported: Path, tmp_path: Path) -> None:
    bring(model, exported, tmp_path / "in")
    places = (exported / "adapter", tmp_path / "in")
    before, after = (load_file(place / "adapter_model.safetensors") for place in places)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tokens = torch.arange(2, 30)[None]
    with torch.no_grad():
        own, theirs = (adapters.load_adapter(tiny.load(model), place)(input_ids=tokens).logits for place in places)
    assert torch.equal(own, theirs)
    assert adapter_metadata.load(tmp_path / "in").prompt == tiny.PROMPT


def test_a_trainers_checkpoint_with_bfloat16_and_optimiser_state(model: Path, exported: Path, tmp_path: Path) -> None:
    halves = ckpt.read(exported / "out" / "adapter.ckpt")
    short = []
    for name, own in halves.items():
        numbers = torch.frombuffer(own.bytes(), dtype=torch.float32).bfloat16().view(torch.uint8).numpy()
        short.append(ckpt.Tensor(name, "BFloat16", own.shape, (numbers.data,)))
        short.append(ckpt.Tensor(f"adam_m.{name}", own.dtype, own.shape, own.pieces))
    weights = ckpt.read(exported / "out" / "merged.ckpt").values()
    ckpt.write(tmp_path / "x.ckpt", [*short, *weights])
    nested = "model: {model_config: {pet_config: {lora_rank: 4, lora_alpha: 16}}}"
    bring(model, exported, tmp_path / "in", nested, tmp_path / "x.ckpt")
    stored = load_file(exported / "adapter" / "adapter_model.safetensors")
    for name, tensor in load_file(tmp_path / "in" / "adapter_model.safetensors").items():
        assert torch.equal(tensor, stored[name].bfloat16().float())
    assert '"lora_alpha": 16' in (tmp_path / "in" / "adapter_config.json").read_text()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("pet_config: {lora_rank: 8, lora_alpha: 16}", r"lora_rank is 8, and the tensors of .* have 4"),
        ("model: {}", "it has no pet_config"),
        (
            "pet_config: {lora_rank: 4, lora_alpha: 1.5}",
            "pet_config.lora_alpha is 1.5, and it has to be an integer above 0",
        ),
        ("pet_config: {lora_rank: 4}", "pet_config needs lora_rank and lora_alpha"),
        ("a: [", "not valid YAML"),
    ],
)
def test_configurations_that_are_not_its_own(
    model: Path, exported: Path, tmp_path: Path, yaml: str, message: str
) -> None:
    with pytest.raises((ModelError, RecipeError), match=message):
        bring(model, exported, tmp_path / "in", yaml)
    assert not list(tmp_path.glob("in*/"))


def test_tensors_that_do_not_fit_the_model(model: Path, exported: Path, tmp_path: Path) -> None:
    halves = list(ckpt.read(exported / "out" / "adapter.ckpt").values())
    ckpt.write(tmp_path / "x.ckpt", halves[:-1])
    with pytest.raises(ModelError, match="adapter tensors differ"):
        bring(model, exported, tmp_path / "in", checkpoint=tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="it holds no LoRA tensor"):
        bring(model, exported, tmp_path / "in", checkpoint=exported / "out" / "merged.ckpt")
    (tmp_path / "in").mkdir()
    with pytest.raises(RunError, match="it exists already"):
        bring(model, exported, tmp_path / "in")
