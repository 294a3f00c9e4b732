"""A stage is used again only while the files that it was made from are the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune, ok, refused
from end_to_end.conftest import MakeRecipe, Tree

from keeptune.files import file_sha256


@pytest.fixture
def inputs(tree: Tree, squad: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of all files that a recipe can name, by recipe key. A test may change them."""
    rows = Path(tree["data"]["files"][0])
    files = {key: tmp_path / f"{key}.jsonl" for key in ("files", "exclude_files", "test_files")}
    lines = rows.read_text(encoding="utf-8").split("\n")
    for start, path in enumerate(files.values()):
        path.write_text("\n".join(lines[start * 300 : start * 300 + 300]) + "\n", encoding="utf-8")
    files |= {key: Path(shutil.copy(squad, tmp_path / f"{key}.json")) for key in ("retained", "replay")}
    files["general"] = tmp_path / "general.txt"
    files["general"].write_text("Rain fell on the hills.\n\nThe mill stood still.\n", encoding="utf-8")
    return files


@pytest.fixture
def prepared(inputs: dict[str, Path], make_recipe: MakeRecipe, tmp_path: Path) -> tuple[Path, Path]:
    """A recipe of these files, and a run whose data stage is complete."""
    data = {key: [str(inputs[key])] for key in ("files", "exclude_files", "test_files")}
    recipe = make_recipe(
        data={**data, "reject_limit": 1.0, "quota": {"default": 5}},
        score={"retained": str(inputs["retained"]), "general": [str(inputs["general"])]},
        retain={"replay": [str(inputs["replay"])], "replay_share": 0.1},
    )
    run = tmp_path / "run"
    ok("data", recipe, "--run", run)
    return recipe, run


def append_line(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")


@pytest.mark.parametrize("key", ["files", "exclude_files", "test_files", "retained", "general", "replay"])
def test_a_changed_input_stops_the_run(key: str, inputs: dict[str, Path], prepared: tuple[Path, Path]) -> None:
    recipe, run = prepared
    before = file_sha256(inputs[key])
    append_line(inputs[key])
    for command in (("run", recipe, "--run", run), ("data", recipe, "--run", run), ("train", run)):
        message = refused(2, *command)
        for part in (str(inputs[key]), before, file_sha256(inputs[key])):
            assert part.replace(" ", "") in message.replace(" ", "")


def test_restored_inputs_are_accepted(inputs: dict[str, Path], prepared: tuple[Path, Path]) -> None:
    recipe, run = prepared
    content = inputs["files"].read_bytes()
    append_line(inputs["files"])
    refused(2, "data", recipe, "--run", run)
    inputs["files"].write_bytes(content)
    ok("data", recipe, "--run", run)


def test_prepared_rows_do_not_need_their_sources(inputs: dict[str, Path], prepared: tuple[Path, Path]) -> None:
    recipe, run = prepared
    for key in ("files", "exclude_files", "test_files"):
        inputs[key].unlink()
    ok("data", recipe, "--run", run)


def test_a_file_that_joins_a_folder_stops_the_run(tree: Tree, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    shutil.copy(tree["data"]["files"][0], folder / "one.jsonl")
    recipe, run = make_recipe(data={"files": [str(folder)]}), tmp_path / "run"
    ok("data", recipe, "--run", run)
    shutil.copy(tree["data"]["files"][0], folder / "two.jsonl")
    assert "two.jsonl" in refused(2, "run", recipe, "--run", run)


def test_verify_names_a_changed_input(finished: Path, tmp_path: Path, squad: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    tree: Any = json.loads((run / "inputs.json").read_text(encoding="utf-8"))
    [reading] = [source for source in tree["files"] if source["file"] == str(squad)]
    reading["sha256"] = "0" * 64
    (run / "inputs.json").write_text(json.dumps(tree), encoding="utf-8")
    done = keeptune("verify", run)
    assert done.code == 3
    assert f"inputs.json, sha256 of {squad}" in done.out


def test_a_run_of_an_older_version_compares_its_card(inputs: dict[str, Path], prepared: tuple[Path, Path]) -> None:
    recipe, run = prepared
    (run / "inputs.json").unlink()
    append_line(inputs["replay"])
    ok("data", recipe, "--run", run)
    append_line(inputs["files"])
    refused(2, "data", recipe, "--run", run)
