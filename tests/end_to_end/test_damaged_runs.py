"""A finished run whose files are damaged or lost: what a message advises works, and no damage ends in a verdict."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune, ok, refused

LOG, MANIFEST, CARD = "log.jsonl", "manifest.json", "data/card.json"
HASHED = [
    "data/train.parquet",
    "data/rejected.jsonl",
    CARD,
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/chosen.json",
    "adapter/keeptune.json",
    "scores/skill-tuned.jsonl",
    "scores/retained-base.jsonl",
]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def figures(run: Path) -> Any:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {key: value for key, value in result.items() if key not in ("finished", "cost")}


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [LOG, MANIFEST, "inputs.json", "result.json", *HASHED])
def test_a_lost_file_is_written_again(name: str, recipe: Path, run: Path) -> None:
    before = figures(run)
    content = (run / name).read_bytes()
    (run / name).unlink()
    ok("run", recipe, "--run", run)
    assert figures(run) == before
    if name in HASHED:
        assert (run / name).read_bytes() == content
    assert keeptune("verify", run).code == 0


@pytest.mark.parametrize("name", [MANIFEST, "adapter/chosen.json", "scores/skill-tuned.jsonl"])
def test_a_truncated_file_is_named_and_deleting_it_helps(name: str, recipe: Path, run: Path) -> None:
    before = figures(run)
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    message = refused(2, "run", recipe, "--run", run).replace(" ", "")
    assert str(run / name) in message
    assert "deleteit" in message
    (run / name).unlink()
    ok("run", recipe, "--run", run)
    assert figures(run) == before


def test_a_torn_last_line_of_the_log_is_cut(recipe: Path, finished: Path, run: Path) -> None:
    with (run / LOG).open("a", encoding="utf-8") as log:
        log.write('{"event": "stage", "sta')
    ok("report", run)
    assert figures(run) == figures(finished)
    (run / "scores" / "skill-tuned.jsonl").unlink()
    ok("run", recipe, "--run", run)
    events = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").split("\n") if line]
    assert events[-1]["stage"] == "score"


@pytest.mark.parametrize("name", HASHED)
def test_a_flipped_bit_stops_every_command_that_relies_on_the_file(name: str, recipe: Path, run: Path) -> None:
    flip_bit(run / name)
    commands: list[tuple[object, ...]] = [("run", recipe, "--run", run), ("report", run)]
    if name.startswith("adapter/"):
        commands += [
            ("ask", run, "1+1"),
            ("score", run, "--retained", "embedded"),
            ("export", run, "--to", "merged", "--out", run.parent / "out"),
            ("gate", "--base", "anything", "--tuned", run),
        ]
    for command in commands:
        assert str(run / name) in refused(2, *command).replace(" ", ""), command
    verified = keeptune("verify", run)
    assert verified.code in (2, 3)
    place = "hashes.adapter:" if name.endswith(".safetensors") else Path(name).name
    assert place in (verified.out + verified.err).replace("\n", "")


def test_an_edited_recipe_stops_the_report(run: Path) -> None:
    """Another threshold would give another verdict."""
    recipe = run / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    assert "threshold: 0.9" in text
    recipe.write_text(text.replace("threshold: 0.9", "threshold: 0.1"), encoding="utf-8")
    assert str(recipe) in refused(2, "report", run).replace(" ", "")
    recipe.write_text(text, encoding="utf-8")
    ok("report", run)


def test_lost_checkpoints_change_nothing(recipe: Path, run: Path) -> None:
    manifest = (run / MANIFEST).read_bytes()
    shutil.rmtree(run / "checkpoints")
    ok("run", recipe, "--run", run)
    assert (run / MANIFEST).read_bytes() == manifest


@pytest.mark.parametrize("name", ["x" * 300, "a" * 5_000])
@pytest.mark.parametrize("file", ["SHA256SUMS", MANIFEST, CARD])
def test_names_that_are_too_long_end_in_a_message(file: str, name: str, run: Path) -> None:
    """`Path.is_file` raises an error on a name that is too long."""
    path = run / file
    text = path.read_text(encoding="utf-8")
    if file == "SHA256SUMS":
        changed = f"{text}{'0' * 64}  scores/{name}\n"
    elif file == MANIFEST:
        tree = json.loads(text)
        tree["hashes"][f"scores/{name}"] = "0" * 64
        changed = json.dumps(tree)
    else:
        tree = json.loads(text)
        tree["files"][0]["file"] = name
        changed = json.dumps(tree)
    path.write_text(changed, encoding="utf-8")
    assert keeptune("verify", run).code in (2, 3)
    assert keeptune("report", run).code in (0, 2)
