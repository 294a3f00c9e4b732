"""Runs whose recipe has deprecated keys: the command line warns once, and stored runs resume and verify without it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import files, ok
from end_to_end.conftest import MakeRecipe

OLD_KEYS = {
    ("data", "exclude_files"): ("data", "unseen"),
    ("data", "max_repeats"): ("data", "repeat_limit"),
    ("data", "teacher"): ("data", "writer"),
    ("train", "truncate_targets"): ("train", "openings"),
    ("train", "activation_checkpointing"): ("train", "recompute"),
    ("retain", "replay"): ("train", "replay"),
    ("retain", "replay_share"): ("train", "replay_share"),
    ("retain", "kl_weight"): ("train", "kl_weight"),
    ("retain", "kl_tokens"): ("train", "kl_on"),
    ("select", "retention_weight"): ("select", "kept_weight"),
}


def as_older_version_wrote_it(run: Path) -> None:
    """Stores the recipe of a run under the old keys."""
    path = run / "recipe.yaml"
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for (section, key), (old_section, old_key) in OLD_KEYS.items():
        tree[old_section][old_key] = tree[section].pop(key)
    rounding = tree["data"].pop("rounding")
    tree["data"] |= {
        "places": rounding["decimals"],
        "digits": rounding["significant_digits"],
        "halves": rounding["half"],
    }
    del tree["retain"]
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_finished_run_resumes_and_verifies(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    as_older_version_wrote_it(run)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["hashes"]["recipe"] = sha256(run / "recipe.yaml")
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    before = files(run)
    for command in (("run", recipe, "--run", run), ("report", run), ("verify", run)):
        assert "deprecated" not in ok(*command).err
    after = files(run)
    assert {name for name in before if before[name] != after[name]} <= {
        "report.html",
        "report.md",
        "result.json",
        "SHA256SUMS",
    }


def test_a_run_that_was_stopped_before_training_verifies(finished: Path, recipe: Path, tmp_path: Path) -> None:
    """The manifest of its training holds the hash of the recipe as it is stored, under the old keys."""
    run = tmp_path / "run"
    ok("data", recipe, "--run", run)
    as_older_version_wrote_it(run)
    stored = (run / "recipe.yaml").read_bytes()
    ok("run", recipe, "--run", run)
    assert (run / "recipe.yaml").read_bytes() == stored
    assert ok("verify", run).code == 0
    adapters = [folder / "adapter" / "adapter_model.safetensors" for folder in (run, finished)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.parametrize("arguments", [(), ("--set", "train.openings={area: 0.5}")])
def test_a_recipe_with_old_keys_warns_once_per_key(
    make_recipe: MakeRecipe, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    recipe = make_recipe(train={"openings": {"area": 1.0}, "recompute": "never"}, data={"unseen": []})
    outcome = ok("data", recipe, "--run", tmp_path / "run", *arguments)
    lines = [line for line in outcome.err.splitlines() if "deprecated" in line]
    assert len(lines) == 3 and all(line.startswith(f"keeptune: warning: {recipe}: ") for line in lines)
    current = ("data.exclude_files", "train.activation_checkpointing", "train.truncate_targets")
    assert all(sum(key in line for line in lines) == 1 for key in current)
    assert "openings" not in (tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8")
