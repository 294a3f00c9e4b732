"""Bad rows and bad files: each is told with its place and reason, with exit code 3, and never trained on."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import files, ok, records, refused
from end_to_end.conftest import MakeRecipe, Tree

LIMIT = {"reject_limit": 1.0}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Good lines, all of one kind that the recipe takes."""
    path = tmp_path_factory.mktemp("good") / "rows.jsonl"
    ok("synth", "--rows", 1000, "--seed", 4, "--out", path)
    return [line for line in path.read_text(encoding="utf-8").splitlines() if "面积" in line][:20]


@pytest.fixture
def taught(good: list[str], tree: Tree, tmp_path: Path) -> Any:
    """The recipe, on a file of these bytes between good lines."""

    def make(content: bytes, **changes: Any) -> Path:
        body = "\n".join(good).encode()
        (tmp_path / "rows.jsonl").write_bytes(body + b"\n" + content + b"\n" + body + b"\n")
        data = {**tree["data"], "files": ["rows.jsonl"], "quota": {}, "split": {"dev": 2, "test": 4}, **changes}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**tree, "data": data}), encoding="utf-8")
        return path

    return make


BAD_LINES = {
    "malformed JSON": b'{"problem": "1 + 1", "solution": ',
    "keys fit no row format": b'{"question": "1 + 1", "solution": "2"}',
    "keys would be dropped": b'{"problem": "1 + 1", "solution": "2", "hint": "3"}',
    "a system turn": b'{"messages": [{"role": "system", "content": "Be brief."}]}',
    "not UTF-8": '{"problem": "长方形", "solution": "面积"}'.encode("gb18030"),
    "longer than 1 MB": b'{"problem": "' + b"x" * 10_000_000 + b'", "solution": "1"}',
    "not an object": b'["problem", "solution"]',
    "a key occurs twice": b'{"problem": "1", "problem": "2", "solution": "3"}',
    "solution is not a text": b'{"problem": "1 + 1", "solution": null}',
    "problem is empty": b'{"problem": " ", "solution": "2"}',
    "no known kind of problem": b'{"problem": "What is love?", "solution": "unknown"}',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_rejected_with_its_place(taught: Any, good: list[str], tmp_path: Path, reason: str) -> None:
    ok("data", taught(BAD_LINES[reason], **LIMIT), "--run", tmp_path / "run")
    rejected = records(tmp_path / "run" / "data" / "rejected.jsonl")
    assert [(Path(row["file"]).name, row["line"]) for row in rejected] == [("rows.jsonl", len(good) + 1)]
    assert rejected[0]["reason"].partition(":")[0] == reason
    assert len(rejected[0]["text"]) <= 2000
    card = json.loads((tmp_path / "run" / "data" / "card.json").read_text(encoding="utf-8"))
    assert card["rows_read"] == 2 * len(good) + 1
    assert card["rejected_by_reason"] == {reason: 1}


def test_an_id_that_occurs_twice(taught: Any, good: list[str], tmp_path: Path) -> None:
    def conversation(identity: str, line: str) -> bytes:
        row = json.loads(line)
        asked = f"Below is an instruction that describes a task.\n\n### Instruction:\n{row['problem']}\n\n### Response:"
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": row["solution"]}]
        return json.dumps({"id": identity, "conversations": turns}, ensure_ascii=False).encode()

    twice = b"\n".join(conversation(name, line) for name, line in zip("aba", good, strict=False))
    ok("data", taught(twice, **LIMIT), "--run", tmp_path / "run")
    rejected = records(tmp_path / "run" / "data" / "rejected.jsonl")
    assert [(row["line"], row["reason"].partition(":")[0]) for row in rejected] == [(len(good) + 3, "id occurs twice")]


def test_too_many_rejected_rows(taught: Any, good: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = taught(b"{\nnull\n{", reject_limit=0.01)
    said = refused(3, "run", recipe, "--run", run)
    assert f"3 of {2 * len(good) + 3} rows are rejected" in said and "data.reject_limit = 0.01" in said
    assert f"2 × malformed JSON, first at {tmp_path / 'rows.jsonl'}:{len(good) + 1}" in said
    assert str(run / "data" / "rejected.jsonl") in said
    assert len(records(run / "data" / "rejected.jsonl")) == 3
    assert not (run / "data" / "card.json").exists()
    assert refused(3, "run", recipe, "--run", run).endswith(said[said.index("3 of") :]), "a second try trusts nothing"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"[]", "the list is empty"),
        (b'[{"problem": "1 + 1", "solution": "2"}', "item 1 of the JSON list cannot be parsed"),
        (b"\n".join([b"\xff\xfd\x00"] * 9), "9 of 9 rows are rejected"),
        (None, "cannot be read (No such file or directory); check its name"),
    ],
)
def test_a_file_without_rows(make_recipe: MakeRecipe, tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "rows.jsonl").write_bytes(content)
    said = refused(3, "run", make_recipe(data={"files": ["rows.jsonl"], "quota": {}}), "--run", tmp_path / "run")
    assert told in said and str(tmp_path / "rows.jsonl") in said
    assert not (tmp_path / "run" / "data" / "card.json").exists()


def test_a_folder_without_files_of_rows(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "notes.md").write_text("No rows.", encoding="utf-8")
    said = refused(3, "run", make_recipe(data={"files": ["rows"]}), "--run", tmp_path / "run")
    assert f"{tmp_path / 'rows'}: no file in this folder ends in .jsonl" in said


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"quota": {"area": 16_000}}, "area: 16000 requested,"),
        ({"kinds": ["mass"], "quota": {"area": 3}}, "area: 3 requested, 0 available"),
        ({"split": {"dev": 500, "test": 9}}, "data.split holds out 500 + 9 of"),
        ({"quota": {"area": 0, "mass": 0, "sales": 0}}, "no problem is selected"),
    ],
)
def test_an_impossible_choice(make_recipe: MakeRecipe, tmp_path: Path, changes: Tree, told: str) -> None:
    assert told in refused(3, "run", make_recipe(data=changes), "--run", tmp_path / "run")
    assert not (tmp_path / "run" / "data" / "card.json").exists()


def test_rows_that_are_too_long_are_an_error_or_dropped(
    make_recipe: MakeRecipe, finished: Path, tmp_path: Path
) -> None:
    said = refused(3, "run", make_recipe(data={"max_tokens": 100}), "--run", tmp_path / "error")
    assert "longer than data.max_tokens = 100" in said
    assert "corpus.jsonl:" in said and "or set data.too_long to drop" in said
    assert not (tmp_path / "error" / "data" / "card.json").exists()
    longest = int(said.partition("Raise data.max_tokens to ")[2].partition(",")[0])
    dropped = make_recipe(data={"max_tokens": longest - 1, "too_long": "drop"})
    ok("data", dropped, "--run", tmp_path / "drop")
    card, whole = (
        json.loads((run / "data" / "card.json").read_text(encoding="utf-8")) for run in (tmp_path / "drop", finished)
    )
    assert card["too_long_dropped"] > 0
    rows, all_rows = (sum(part["rows"] for part in one["splits"].values()) for one in (card, whole))
    assert rows == all_rows - card["too_long_dropped"]


@pytest.mark.parametrize("key", ["retained", "replay"])
def test_a_missing_reading_file(make_recipe: MakeRecipe, tmp_path: Path, key: str) -> None:
    section = {"retained": "score", "replay": "retain"}[key]
    said = refused(3, "run", make_recipe(**{section: {key: str(tmp_path / "none.json")}}), "--run", tmp_path / "run")
    assert f"{tmp_path / 'none.json'}: cannot be read (No such file or directory)" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_damaged_data_of_a_run_is_not_trained_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe, run = make_recipe(), tmp_path / "run"
    ok("data", recipe, "--run", run)
    (run / "data" / "train.parquet").write_bytes(b"PAR1")
    said = refused(2, "run", recipe, "--run", run)
    assert "train.parquet: cannot read" in said and f"delete {run / 'data'} and run" in said
    assert not (run / "checkpoints").exists()


def test_what_was_wrong_with_a_file_does_not_stick(make_recipe: MakeRecipe, corpus: Path, tmp_path: Path) -> None:
    """The file is repaired, the recipe stays: the same command goes on, and ends as if nothing had been wrong."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"{\n" * 9)
    recipe = make_recipe(data={"files": [str(rows)]})
    refused(3, "data", recipe, "--run", tmp_path / "run")
    rows.write_bytes(corpus.read_bytes())
    ok("data", recipe, "--run", tmp_path / "run")
    ok("data", recipe, "--run", tmp_path / "other")
    own, other = files(tmp_path / "run" / "data"), files(tmp_path / "other" / "data")
    assert own == other
