"""MindFormers 1.9 itself judges what is handed to it: it loads everything, computes the same, and trains on.

It pins transformers and numpy, so it goes into a Python of its own. Where that is, KEEPTUNE_MINDFORMERS_PYTHON says
(`make test-mindformers` installs it); without it these tests are skipped.
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
pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with MindFormers")

THEIRS = Path(__file__).parents[1] / "oracle_mindformers" / "theirs.py"
WINDOW = 400
IDS = np.random.default_rng(0).integers(2, 300, (1, 40))
CLOSE = 1e-4


def theirs(folder: Path, *arguments: object) -> None:
    """Runs a part of theirs.py in `folder`, where MindFormers leaves its logs."""
    folder.mkdir(exist_ok=True)
    # The flags of this Python are not for that one.
    environment = {name: own for name, own in os.environ.items() if not name.startswith("PYTHON")}
    command = [os.environ[PYTHON], str(THEIRS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, cwd=folder)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def their_logits(folder: Path, export: Path, checkpoint: Path, lora: bool) -> NDArray[np.float32]:
    """What MindFormers computes from a checkpoint, with the configuration that was exported."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "ids.npy", IDS)
    theirs(folder, "logits", export / "finetune.yaml", checkpoint, int(lora))
    logits: NDArray[np.float32] = np.load(folder / "logits.npy")
    return logits


def our_logits(model: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(input_ids=torch.tensor(IDS)).logits.numpy()
    return logits


def test_it_computes_the_same_and_what_it_trains_comes_back(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, export, record = (tmp_path / name for name in ("run", "export", "record"))
    recipe = make_recipe(
        data={"max_tokens": WINDOW}, train={"epochs": 1, "tokens_per_step": 1500}, retain={"replay_share": 0}
    )
    ok("run", recipe, "--run", run)
    ok("export", run, "--to", "mindformers", "--out", export)
    tuned = adapters.load_adapter(models.load_model(str(model_of(run)), "float32"), run / "adapter")
    ours = our_logits(tuned)
    with adapters.scaled(tuned, 0.0):
        base = our_logits(tuned)
    assert abs(ours - base).max() > 100 * CLOSE
    for lora, expected in ((True, ours), (False, base)):
        found = their_logits(tmp_path / f"theirs-{lora}", export, export / "tuned.ckpt", lora)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=CLOSE)

    ok("export", run, "--to", "mindrecord", "--seq-length", WINDOW, "--out", record)
    theirs(tmp_path / "trained", "train", export, record / f"train-{WINDOW}.mindrecord")
    (newest,) = (tmp_path / "trained").glob("last.ckpt")
    back = tmp_path / "back"
    asked = ("--pet-config", export / "finetune.yaml", "--model", model_of(run), "--prompt", "alpaca", "--out", back)
    ok("import", newest, *asked)
    returned = our_logits(adapters.load_adapter(models.load_model(str(model_of(run)), "float32"), back))
    found = their_logits(tmp_path / "theirs-trained", export, newest, True)
    np.testing.assert_allclose(found.reshape(returned.shape), returned, rtol=0, atol=CLOSE)
    assert abs(returned - ours).max() > 100 * CLOSE, "it has not been trained"


def model_of(run: Path) -> Path:
    """The folder of the base model."""
    text = (run / "recipe.yaml").read_text(encoding="utf-8")
    return Path(text.split("model:\n  name: ")[1].split("\n")[0])
