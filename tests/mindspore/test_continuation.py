"""The export to MindFormers: configurations match the recipe, the checkpoint holds base and adapter."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

from keeptune.config import recipe as recipes
from keeptune.data.preparation import COLUMNS, SCHEMA
from keeptune.errors import ModelError
from keeptune.export.exporter import export
from keeptune.files import write_text
from keeptune.mindspore import ckpt
from keeptune.mindspore.configuration import load_configuration
from keeptune.mindspore.recipe_yaml import import_recipe
from keeptune.mindspore.run_rows import export_training
from keeptune.mindspore.tensor_names import rename_from_mindformers
from keeptune.mindspore.unsupported_keys import UNKNOWN_KEY
from keeptune.models import adapter_metadata, adapters
from keeptune.models.target_layers import layer_roles, linear_layer_names, target_modules
from keeptune.pipeline.run import Run
from keeptune.prompts.named import resolve_prompt

ROWS = tiny.problems(12)


def run_folder(tmp_path: Path, template: str = "vicuna", replay_share: float = 0, **train: Any) -> Path:
    """A run directory with the files that an export needs: recipe, rows, adapter."""
    model, run = tiny.save(tmp_path / "model"), tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    (run / "data").mkdir()
    tree = {
        "seed": 7,
        "model": {"name": str(model), "dtype": "float32"},
        "data": {"synth": {"rows": 100}, "max_tokens": 300},
        "prompt": {"template": template},
        "adapter": {"rank": 4, "alpha": 8},
        "train": {
            "optimizer": "mindformers", "epochs": 3, "learning_rate": 2e-4, "final_rate_share": 0.25,
            "warmup_share": 0.1, "weight_decay": 0.01, "clip_norm": 0.5, "checkpoint_every_steps": 10,
            "tokens_per_step": 1000, **train,
        },
        "retain": {"replay_share": replay_share},
    }  # fmt: skip
    write_text(run / "recipe.yaml", recipes.dump(recipes.parse(tree, "test")))
    columns = [
        [f"{i}", kind, problem, solution, "1", "f", i, 40, 60] for i, (kind, problem, solution) in enumerate(ROWS)
    ]
    for part in ("train", "test"):
        table = pa.table([list(values) for values in zip(*columns, strict=True)], schema=SCHEMA)
        assert table.column_names == list(COLUMNS)
        pq.write_table(table, run / "data" / f"{part}.parquet")
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), "lora")), run / "adapter")
    card = adapter_metadata.AdapterMetadata(
        str(model), "arithmetic", resolve_prompt(template), {"add": 90}, scale=1.0, dtype="float32"
    )
    adapter_metadata.save(card, run / "adapter")
    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(str(run_folder(folder)), "mindformers", folder / "out")
    return folder


def test_importing_the_export_returns_the_recipe(exported: Path) -> None:
    before = recipes.load(exported / "run" / "recipe.yaml")
    finetune = exported / "out" / "finetune.yaml"
    others = [exported / "out" / "evaluate.yaml", exported / "out" / "predict.yaml"]
    imported = import_recipe(finetune, others, prompt="vicuna", model=before.model.name)
    after = recipes.parse(imported.recipe, "imported")
    assert (after.seed, after.model, after.prompt) == (before.seed, before.model, before.prompt)
    assert after.data.max_tokens == before.data.max_tokens
    assert (after.adapter.rank, after.adapter.alpha, after.adapter.dropout) == (4, 8, 0)
    cells = target_modules(after.adapter.targets, layer_roles(tiny.load(exported / "model")))
    assert cells == linear_layer_names(tiny.load(exported / "model"))
    assert after.train.tokens_per_step == 10 * 300  # ten rows of 100 tokens fill the run's step of 1,000
    shared = ("optimizer", "epochs", "learning_rate", "final_rate_share", "warmup_share", "weight_decay", "clip_norm")
    assert after.retain.replay_share == before.retain.replay_share
    for option in (*shared, "checkpoint_every_steps"):
        assert getattr(after.train, option) == pytest.approx(getattr(before.train, option)), option
    assert not [setting for setting, why in imported.unused.items() if UNKNOWN_KEY in why]
    assert [warning for warning in imported.warnings if "drop_remainder" not in warning] == []


def test_all_files_have_the_same_pet_config(exported: Path) -> None:
    configurations = [
        load_configuration(exported / "out" / f"{name}.yaml") for name in ("finetune", "evaluate", "predict")
    ]
    expected = yaml.safe_load((exported / "out" / "pet_config.yaml").read_text())["pet_config"]
    for configuration in configurations:
        stored = {key: configuration.get(f"model.model_config.pet_config.{key}") for key in expected}
        assert stored == expected
        assert configuration.get("only_save_strategy") is False
    assert configurations[2].get("model.model_config.max_new_tokens") == 90


def test_checkpoint_holds_base_and_adapter(exported: Path) -> None:
    tensors = rename_from_mindformers(ckpt.read(exported / "out" / "tuned.ckpt"))
    adapter = load_file(exported / "run" / "adapter" / "adapter_model.safetensors")
    base = tiny.reference(exported / "model").state_dict()
    assert tensors.keys() == adapter.keys() | base.keys()
    for name, tensor in {**adapter, **base}.items():
        stored = torch.frombuffer(tensors[name].bytes(), dtype=torch.float32).view(tensor.shape)
        assert torch.equal(stored, tensor.float()), name


def test_rows_and_questions_have_the_prompt(exported: Path) -> None:
    rows = json.loads((exported / "out" / "conversations.json").read_text(encoding="utf-8"))
    assert [tuple(turn["value"] for turn in row["conversations"]) for row in rows] == [(p, s) for _, p, s in ROWS]
    lines = (exported / "out" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["problem"] for line in lines] == [resolve_prompt("vicuna").render(p) for _, p, _ in ROWS]
    commands = (exported / "out" / "commands.sh").read_text(encoding="utf-8")
    assert "msrun --worker_num=2 --local_worker_num=2 --master_port=8118" in commands
    assert "--config $HERE/finetune.yaml --load_checkpoint $HERE/tuned.ckpt" in commands
    assert "llama_preprocess.py --dataset_type qa" in commands


def test_prompt_unknown_to_the_kit_is_written_by_keeptune(tmp_path: Path) -> None:
    export(str(run_folder(tmp_path, tiny.PROMPT.template, optimizer="adamw")), "mindformers", tmp_path / "out")
    assert not (tmp_path / "out" / "conversations.json").exists()
    assert "--to mindrecord --seq-length" in (tmp_path / "out" / "commands.sh").read_text(encoding="utf-8")
    optimiser = yaml.safe_load((tmp_path / "out" / "finetune.yaml").read_text())["optimizer"]
    assert optimiser == {"type": "AdamW", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.01}


def test_configuration_matches_the_exported_mindrecord(tmp_path: Path) -> None:
    run = run_folder(tmp_path, tiny.PROMPT.template)
    export(str(run), "mindformers", tmp_path / "out")
    opened = Run.open(run)
    export_training(opened.examples(), opened.context.models.tokenizer, opened.context.prompt, 300, tmp_path / "rows")
    finetune = load_configuration(tmp_path / "out" / "finetune.yaml")
    name = str(finetune.get("train_dataset.data_loader.dataset_dir"))
    assert (tmp_path / "rows" / name).is_file() and (tmp_path / "rows" / f"{name}.db").is_file()
    assert f"$HERE/{name}" in (tmp_path / "out" / "commands.sh").read_text(encoding="utf-8")
    about = json.loads((tmp_path / "rows" / "about.json").read_text(encoding="utf-8"))
    for file in ("finetune", "evaluate", "predict"):
        configuration = load_configuration(tmp_path / "out" / f"{file}.yaml")
        assert configuration.get("model.model_config.pad_token_id") == about["pad_token_id"]
    assert finetune.get("model.model_config.seq_length") == about["seq_length"]


def test_unsupported_settings_are_listed_and_do_not_change_the_epochs(tmp_path: Path) -> None:
    """1,200 tokens of skill rows and as many of replay rows, two epochs."""
    prefix_shares = {"function": 0.5}
    unsupported = {"loraplus_ratio": 16, "truncate_targets": prefix_shares, "step_weight": "tokens"}
    run = run_folder(tmp_path, optimizer="adamw", tokens=4800, replay_share=0.5, **unsupported)
    export(str(run), "mindformers", tmp_path / "out")
    text = (tmp_path / "out" / "finetune.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["runner_config"]["epochs"] == 2
    assert "train.loraplus_ratio: 16: " in text
    assert "retain.replay_share: 0.5: " in text
    assert "train.truncate_targets: {'function': 0.5}: " in text
    assert "train.step_weight: tokens: " in text


def test_export_needs_the_run_directory(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"recipe\.yaml"):
        export(str(exported / "run" / "adapter"), "mindformers", tmp_path / "out")
    assert not list(tmp_path.iterdir())
