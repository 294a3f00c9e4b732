"""Importing a MindFormers LoRA: an exported adapter returns unchanged, and one that does not fit is rejected."""

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from keeptune.errors import ModelError, RecipeError, RunError
from keeptune.export.exporter import export
from keeptune.mindspore import ckpt
from keeptune.mindspore.import_adapter import import_adapter
from keeptune.models import adapter_metadata, adapters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned model exported as MindSpore checkpoints, and its adapter."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "adapter").mkdir()
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), "lora")), folder / "adapter")
    card = adapter_metadata.AdapterMetadata(str(model), "arithmetic", tiny.PROMPT, {}, scale=1.0, dtype="float32")
    adapter_metadata.save(card, folder / "adapter")
    export(str(folder / "adapter"), "mindspore", folder / "out")
    return folder


def run_import(model: Path, exported: Path, out: Path, yaml: str | None = None, checkpoint: Path | None = None) -> None:
    configuration = out.with_suffix(".yaml")
    configuration.write_text(yaml or (exported / "out" / "pet_config.yaml").read_text())
    path = checkpoint or exported / "out" / "adapter.ckpt"
    import_adapter(path, configuration, str(model), "arithmetic", tiny.PROMPT, out)


def test_exported_adapter_is_imported_unchanged(model: Path, exported: Path, tmp_path: Path) -> None:
    run_import(model, exported, tmp_path / "in")
    folders = (exported / "adapter", tmp_path / "in")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tokens = torch.arange(2, 30)[None]
    with torch.no_grad():
        expected, logits = (
            adapters.load_adapter(tiny.load(model), folder)(input_ids=tokens).logits for folder in folders
        )
    assert torch.equal(logits, expected)
    assert adapter_metadata.load(tmp_path / "in").prompt == tiny.PROMPT


def test_checkpoint_with_bfloat16_and_optimizer_state(model: Path, exported: Path, tmp_path: Path) -> None:
    tensors = []
    for name, tensor in ckpt.read(exported / "out" / "adapter.ckpt").items():
        values = torch.frombuffer(tensor.bytes(), dtype=torch.float32).bfloat16().view(torch.uint8).numpy()
        tensors.append(ckpt.Tensor(name, "BFloat16", tensor.shape, (values.data,)))
        tensors.append(ckpt.Tensor(f"adam_m.{name}", tensor.dtype, tensor.shape, tensor.pieces))
    weights = ckpt.read(exported / "out" / "merged.ckpt").values()
    ckpt.write(tmp_path / "x.ckpt", [*tensors, *weights])
    nested = "model: {model_config: {pet_config: {lora_rank: 4, lora_alpha: 16}}}"
    run_import(model, exported, tmp_path / "in", nested, tmp_path / "x.ckpt")
    stored = load_file(exported / "adapter" / "adapter_model.safetensors")
    for name, tensor in load_file(tmp_path / "in" / "adapter_model.safetensors").items():
        assert torch.equal(tensor, stored[name].bfloat16().float())
    assert '"lora_alpha": 16' in (tmp_path / "in" / "adapter_config.json").read_text()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("pet_config: {lora_rank: 8, lora_alpha: 16}", "lora_rank is 8"),
        ("model: {}", "no pet_config"),
        (
            "pet_config: {lora_rank: 4, lora_alpha: 1.5}",
            "lora_alpha must be .*got 1.5",
        ),
        ("pet_config: {lora_rank: 4}", "must have lora_rank"),
        ("a: [", "not valid YAML"),
    ],
)
def test_wrong_configurations_are_rejected(
    model: Path, exported: Path, tmp_path: Path, yaml: str, message: str
) -> None:
    with pytest.raises((ModelError, RecipeError), match=message):
        run_import(model, exported, tmp_path / "in", yaml)
    assert not list(tmp_path.glob("in*/"))


def test_tensors_that_do_not_fit_are_rejected(model: Path, exported: Path, tmp_path: Path) -> None:
    tensors = list(ckpt.read(exported / "out" / "adapter.ckpt").values())
    ckpt.write(tmp_path / "x.ckpt", tensors[:-1])
    with pytest.raises(ModelError, match="adapter tensors"):
        run_import(model, exported, tmp_path / "in", checkpoint=tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="no LoRA tensor"):
        run_import(model, exported, tmp_path / "in", checkpoint=exported / "out" / "merged.ckpt")
    (tmp_path / "in").mkdir()
    with pytest.raises(RunError, match="exists"):
        run_import(model, exported, tmp_path / "in")
