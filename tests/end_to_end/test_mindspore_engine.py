"""`engine: mindspore`: one word in the recipe, and everything but the steps is as it was."""

import json
import os
import sys
from pathlib import Path

import pytest
from end_to_end.command import ok, refused
from end_to_end.conftest import MakeRecipe

from keeptune.mindspore.workers import PYTHON


@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with mindspore")
def test_a_whole_run(make_recipe: MakeRecipe, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ok("run", make_recipe(engine="mindspore"), "--run", run)
    made, its = (json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (run, finished))
    assert made["skill"]["tuned"]["accuracy"] == its["skill"]["tuned"]["accuracy"]
    assert made["retained"]["tuned"]["f1"] == pytest.approx(its["retained"]["tuned"]["f1"], abs=0.5)
    assert made["cost"]["tokens_useful"] == its["cost"]["tokens_useful"]
    assert not (run / "mindspore").exists()
    assert "all of it follows" in ok("verify", run).out


def test_what_it_cannot_do_is_listed(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "true")  # says yes to whether MindSpore is there; it is not started
    recipe = make_recipe(engine="mindspore", adapter={"family": "dora"}, retain={"kl_weight": 0.5})
    message = refused(2, "run", recipe, "--run", tmp_path / "run")
    assert "adapter.family: dora; choose lora or rslora" in message
    assert "retain.kl_weight: set it to 0" in message


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_without_mindspore_it_says_how_to_get_it_before_anything_is_done(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setenv(PYTHON, python)
    message = refused(2, "run", make_recipe(engine="mindspore"), "--run", tmp_path / "run")
    assert "make setup-mindspore" in message
    assert not (tmp_path / "run").exists()
