"""Rows of a MindRecord file become texts again; truncated and masked rows are skipped and listed."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from end_to_end.command import keeptune, ok

from keeptune.errors import DataError, RecipeError
from keeptune.mindspore.record_rows import write_rows
from keeptune.mindspore.record_set import Layout, Row, write_set
from keeptune.mindspore.run_rows import IGNORED
from keeptune.prompts.named import NAMED
from keeptune.prompts.template import SLOT

TOKENIZER: Any = tiny.tokenizer()
END = TOKENIZER.eos_token_id
PROBLEM, SOLUTION = "计算 1.00 + 2.00 等于多少？", "1.00 + 2.00 = 3.00"


def row(prompt: str, answer: str, name: str = "") -> Row:
    before, after = (TOKENIZER.encode(text, add_special_tokens=False) for text in (prompt, answer))
    return Row(name, [*before, *after, END], [IGNORED] * len(before) + [*after, END])


def saved(folder: Path, rows: list[Row], length: int = 400) -> Path:
    write_set(folder / "set", "train", rows, Layout(length, (TOKENIZER.pad_token_id, IGNORED), "qa"), {}, 1)
    return folder / "set" / "train.mindrecord"


def texts(path: Path) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(record["problem"], record["solution"]) for record in records]


@pytest.mark.parametrize("name", list(NAMED))
def test_known_prompts_are_removed(model_folder: Path, tmp_path: Path, name: str) -> None:
    prompt = NAMED[name].replace(SLOT, PROBLEM)
    path = saved(tmp_path, [row(prompt, f" {SOLUTION}")])
    result = write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [(PROBLEM, SOLUTION)]
    assert (result.rows, result.prompts) == (1, {name: 1})
    assert name in result.text()


@pytest.mark.parametrize(
    "template", ["{problem}\nAnswer:", f"{tiny.BEGIN}asked\n{{problem}}{tiny.END}\n", "Q {problem} A"]
)
def test_given_prompt_is_removed(model_folder: Path, tmp_path: Path, template: str) -> None:
    prompt, other = template.replace(SLOT, PROBLEM), "another prompt"
    path = saved(tmp_path, [row(prompt, SOLUTION), row(other, SOLUTION)])
    result = write_rows(path, str(model_folder), template, tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [(PROBLEM, SOLUTION)]
    assert [skipped.row for skipped in result.skipped] == ["2"]
    assert "given prompt" in result.skipped[0].reason


def test_rows_of_another_model_are_rejected(model_folder: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, [row("Q: a\n", "b"), Row("", [len(TOKENIZER), END], [IGNORED, END])])
    with pytest.raises(DataError, match=r"row 2 contains token \d+"):
        write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_existing_file_is_not_overwritten(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="exists"):
        write_rows(saved(tmp_path, [row("Q: a\n", "b")]), str(model_folder), None, tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == "mine"


def test_truncated_and_masked_rows_are_listed(model_folder: Path, tmp_path: Path) -> None:
    whole, long = row("Q: a\n", "b"), row("Q: a\n", "b" * 60)
    truncated = Row("", long.input_ids[:40], long.labels[:40])
    masked = Row("", whole.input_ids, [IGNORED] * len(whole.labels))
    twice = Row("", [*whole.input_ids, *whole.input_ids], [*whole.labels, *whole.labels])
    without_prompt = Row("", [*whole.input_ids], [*whole.input_ids])
    path = saved(tmp_path, [whole, truncated, masked, twice, masked, without_prompt], length=40)
    result = write_rows(path, str(model_folder), "Q: {problem}\n", tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [("a", "b")]
    assert [(skipped.row, skipped.reason.split()[0]) for skipped in result.skipped] == [
        ("2", "truncated:"),
        ("3", "no"),
        ("4", "several"),
        ("5", "no"),
        ("6", "no"),
    ]
    assert "rows 3, 5" in result.text()


def test_no_file_is_written_when_every_row_is_skipped(model_folder: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, [Row("", [5, 6], [IGNORED, IGNORED])])
    with pytest.raises(DataError, match="no token with loss: rows 1"):
        write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_exported_rows_are_imported_into_another_run(model_folder: Path, tmp_path: Path) -> None:
    model = {"name": str(model_folder), "dtype": "float32"}
    data = {"kinds": ["add", "area"], "quota": {"default": 6}, "max_tokens": 1000, "split": {"dev": 1, "test": 1}}
    first = {"model": model, "data": {"synth": {"rows": 200}, "styles": {"default": "longhand"}, **data}}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first), encoding="utf-8")
    ok("data", tmp_path / "first.yaml", "--run", tmp_path / "first")
    ok("export", tmp_path / "first", "--to", "mindrecord", "--seq-length", 700, "--out", tmp_path / "set")
    rows, prompt = tmp_path / "rows.jsonl", "Question: {problem}\nAnswer:\n"
    path = tmp_path / "set" / "train-700.mindrecord"
    outcome = keeptune("import", path, "--model", model_folder, "--prompt", prompt, "--out", rows)
    exported = json.loads((tmp_path / "set" / "about.json").read_text(encoding="utf-8"))["rows"]
    assert f"{exported} rows, {exported} with" in outcome.out
    quota = {**data, "quota": {"default": 3}}
    second = {"model": model, "data": {"files": ["rows.jsonl"], **quota}}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second), encoding="utf-8")
    ok("data", tmp_path / "second.yaml", "--run", tmp_path / "second")
    card = json.loads((tmp_path / "second" / "data" / "card.json").read_text(encoding="utf-8"))
    assert (card["rows_read"], card["rows_rejected"]) == (exported, 0)
