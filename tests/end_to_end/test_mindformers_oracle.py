"""MindFormers 1.9 loads the exported files, computes the same logits, and continues training.

It pins transformers and numpy and needs a separate Python, which KEEPTUNE_MINDFORMERS_PYTHON names (`make
test-mindformers` installs it). Otherwise these tests are skipped.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from end_to_end.command import ok
from end_to_end.conftest import MakeRecipe
from numpy.typing import NDArray

from keeptune.models import adapters
from keeptune.models import load as models

PYTHON = "KEEPTUNE_MINDFORMERS_PYTHON"
pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not name a Python with MindFormers")

PROGRAM = Path(__file__).parents[1] / "oracle_mindformers" / "mindformers_program.py"
WINDOW = 400
IDS = np.random.default_rng(0).integers(2, 300, (1, 40))
TOLERANCE = 1e-4


def run_mindformers(folder: Path, *arguments: object) -> None:
    """Runs a command of mindformers_program.py in `folder`, where MindFormers writes its logs."""
    folder.mkdir(exist_ok=True)
    # Environment variables of this Python must not affect the other one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [os.environ[PYTHON], str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, cwd=folder)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def mindformers_logits(folder: Path, export: Path, checkpoint: Path, lora: bool) -> NDArray[np.float32]:
    """The logits that MindFormers computes from a checkpoint with the exported configuration."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "ids.npy", IDS)
    run_mindformers(folder, "logits", export / "finetune.yaml", checkpoint, int(lora))
    logits: NDArray[np.float32] = np.load(folder / "logits.npy")
    return logits


def keeptune_logits(model: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(input_ids=torch.tensor(IDS)).logits.numpy()
    return logits


def test_same_logits_and_trained_adapter_is_imported(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, export, record = (tmp_path / name for name in ("run", "export", "record"))
    recipe = make_recipe(
        data={"max_tokens": WINDOW}, train={"epochs": 1, "tokens_per_step": 1500}, retain={"replay_share": 0}
    )
    ok("run", recipe, "--run", run)
    ok("export", run, "--to", "mindformers", "--out", export)
    tuned = adapters.load_adapter(models.load_model(str(model_of(run)), "float32"), run / "adapter")
    tuned_logits = keeptune_logits(tuned)
    with adapters.scaled(tuned, 0.0):
        base_logits = keeptune_logits(tuned)
    assert abs(tuned_logits - base_logits).max() > 100 * TOLERANCE
    for lora, expected in ((True, tuned_logits), (False, base_logits)):
        actual = mindformers_logits(tmp_path / f"mindformers-{lora}", export, export / "tuned.ckpt", lora)
        np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=0, atol=TOLERANCE)

    ok("export", run, "--to", "mindrecord", "--seq-length", WINDOW, "--out", record)
    run_mindformers(tmp_path / "trained", "train", export, record / f"train-{WINDOW}.mindrecord")
    (newest,) = (tmp_path / "trained").glob("last.ckpt")
    imported = tmp_path / "imported"
    options = (
        "--pet-config",
        export / "finetune.yaml",
        "--model",
        model_of(run),
        "--prompt",
        "alpaca",
        "--out",
        imported,
    )
    ok("import", newest, *options)
    expected = keeptune_logits(adapters.load_adapter(models.load_model(str(model_of(run)), "float32"), imported))
    actual = mindformers_logits(tmp_path / "mindformers-trained", export, newest, True)
    np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=0, atol=TOLERANCE)
    assert abs(expected - tuned_logits).max() > 100 * TOLERANCE, "training did not change the adapter"


def model_of(run: Path) -> Path:
    """The folder of the base model."""
    text = (run / "recipe.yaml").read_text(encoding="utf-8")
    return Path(text.split("model:\n  name: ")[1].split("\n")[0])
