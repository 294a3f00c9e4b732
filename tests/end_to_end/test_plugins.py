"""A package outside of keeptune adds a skill and a grader, which recipes and the command line use by name."""

import importlib
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from end_to_end.command import keeptune, ok, records, refused
from end_to_end.conftest import Tree

PACKAGE = Path(__file__).resolve().parents[1] / "example_package"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example package in a folder on `sys.path`, with the metadata that an installer writes."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = tmp_path / "site-packages"
    metadata = folder / f"keeptune_units-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(PACKAGE / "keeptune_units.py", folder)
    facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(facts, encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.modules.pop("keeptune_units", None)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"problem": f"Convert {n} km to m.", "solution": f"{1000 * n}"} for n in range(1, 41)]
    lines.append({"problem": "Convert 41 km to m.", "solution": "41"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_recipe(tree: Tree, rows: Path, path: Path, **data: object) -> Path:
    section = {"files": [str(rows)], "reject_limit": 0.1, "max_tokens": 1000, "split": {"dev": 6, "test": 9}, **data}
    train = {**tree["train"], "epochs": 1, "score_every_steps": 0}
    path.write_text(yaml.safe_dump({**tree, "data": section, "train": train}), encoding="utf-8")
    return path


@pytest.mark.usefixtures("installed")
def test_a_skill_of_another_package_runs_by_name(tree: Tree, rows: Path, tmp_path: Path) -> None:
    recipe, run = write_recipe(tree, rows, tmp_path / "recipe.yaml", skill="units"), tmp_path / "run"
    assert keeptune("run", recipe, "--run", run).code in (0, 4)
    (rejected,) = records(run / "data" / "rejected.jsonl")
    assert rejected["reason"] == "wrong answer: it is not the exact value"
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["skill"]["tuned"]["by_kind"].keys() == {
        "km-to-m"
    }
    assert ok("verify", run).out.rstrip().endswith("all of it follows")
    assert ok("score", run / "adapter", "--skill", rows, "--limit", 2, "--json").json["skill"]["n"] == 2


@pytest.mark.usefixtures("installed")
def test_rows_of_a_skill_of_another_package_are_generated_by_name(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    ok("synth", "--preset", "units", "--rows", 5, "--out", path)
    rows = records(path)
    assert len({row["problem"] for row in rows}) == 5
    assert all(row["problem"].startswith("Convert ") and row["solution"].endswith("000") for row in rows)


@pytest.mark.usefixtures("installed")
def test_a_grader_of_another_package_grades_by_name(tree: Tree, rows: Path, tmp_path: Path) -> None:
    grader = {"name": "starts-with", "ignore_case": True}
    recipe = write_recipe(tree, rows, tmp_path / "recipe.yaml", skill="text", grader=grader)
    ok("data", recipe, "--run", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "data" / "card.json").read_text(encoding="utf-8"))["rows_kept"] == 41
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    assert stored["data"]["grader"] == {**grader, "answer": "whole"}
    wrong = write_recipe(tree, rows, tmp_path / "wrong.yaml", skill="text", grader={**grader, "ignore_cas": True})
    assert "ignore_case?" in refused(2, "plan", wrong)


def test_names_are_unknown_without_the_package(tree: Tree, rows: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    assert "data.skill must be the name" in refused(2, "plan", write_recipe(tree, rows, path, skill="units"))
    assert "starts-with" in refused(2, "plan", write_recipe(tree, rows, path, skill="text", grader="starts-with"))


def test_a_package_that_cannot_be_imported_is_named(installed: Path, tree: Tree, rows: Path, tmp_path: Path) -> None:
    (installed / "keeptune_units.py").write_text("import does_not_exist\n", encoding="utf-8")
    recipe = write_recipe(tree, rows, tmp_path / "recipe.yaml", skill="units")
    message = refused(2, "plan", recipe)
    assert "keeptune-units" in message and "does_not_exist" in message


def test_the_page_on_extensions_shows_this_package() -> None:
    page = (PACKAGE.parents[1] / "EXTENDING.md").read_text(encoding="utf-8")
    source = (PACKAGE / "keeptune_units.py").read_text(encoding="utf-8")
    parts = source.split("\n\n\n")
    for part in (*parts[1:], (PACKAGE / "pyproject.toml").read_text(encoding="utf-8").partition("\n\n")[2]):
        assert part.strip() in page
