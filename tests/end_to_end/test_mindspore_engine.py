"""`engine: mindspore`: a complete run, unsupported settings and a missing MindSpore."""

import json
import os
import sys
from pathlib import Path

import pytest
from end_to_end.command import ok, refused
from end_to_end.conftest import MakeRecipe

from keeptune.mindspore.workers import PYTHON


@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not name a Python with mindspore")
def test_complete_run(make_recipe: MakeRecipe, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ok("run", make_recipe(engine="mindspore"), "--run", run)
    result, torch_result = (
        json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (run, finished)
    )
    assert result["skill"]["tuned"]["accuracy"] == torch_result["skill"]["tuned"]["accuracy"]
    assert result["retained"]["tuned"]["f1"] == pytest.approx(torch_result["retained"]["tuned"]["f1"], abs=0.5)
    assert result["cost"]["tokens_useful"] == torch_result["cost"]["tokens_useful"]
    assert not (run / "mindspore").exists()
    assert "all of it follows" in ok("verify", run).out


def test_unsupported_settings(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "true")  # passes the check for MindSpore; the engine is not started
    recipe = make_recipe(engine="mindspore", adapter={"family": "dora"}, retain={"kl_weight": 0.5})
    message = refused(2, "run", recipe, "--run", tmp_path / "run")
    assert "adapter.family: must be lora or rslora" in message
    assert "retain.kl_weight: must be 0" in message


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_missing_mindspore_is_reported_before_the_run_starts(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setenv(PYTHON, python)
    message = refused(2, "run", make_recipe(engine="mindspore"), "--run", tmp_path / "run")
    assert "make setup-mindspore" in message
    assert not (tmp_path / "run").exists()
