"""Rows that went into a MindRecord come out as the texts they were; what the kit cuts or masks is named, not taken."""

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

WORDS: Any = tiny.tokenizer()
END = WORDS.eos_token_id
PROBLEM, SOLUTION = "计算 1.00 + 2.00 等于多少？", "1.00 + 2.00 = 3.00"


def row(asked: str, answered: str, name: str = "") -> Row:
    before, behind = (WORDS.encode(text, add_special_tokens=False) for text in (asked, answered))
    return Row(name, [*before, *behind, END], [IGNORED] * len(before) + [*behind, END])


def saved(folder: Path, rows: list[Row], length: int = 400) -> Path:
    write_set(folder / "set", "train", rows, Layout(length, (WORDS.pad_token_id, IGNORED), "qa"), {}, 1)
    return folder / "set" / "train.mindrecord"


def texts(path: Path) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(record["problem"], record["solution"]) for record in records]


@pytest.mark.parametrize("name", list(NAMED))
def test_the_kits_prompts_are_taken_off(model_folder: Path, tmp_path: Path, name: str) -> None:
    asked = NAMED[name].replace(SLOT, PROBLEM)
    path = saved(tmp_path, [row(asked, f" {SOLUTION}")])
    taken = write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [(PROBLEM, SOLUTION)]
    assert taken.text() == f"1 rows, 1 in {name}"


@pytest.mark.parametrize(
    "template", ["{problem}\nAnswer:", f"{tiny.BEGIN}asked\n{{problem}}{tiny.END}\n", "Q {problem} A"]
)
def test_a_prompt_is_taken_off_wherever_it_stands(model_folder: Path, tmp_path: Path, template: str) -> None:
    own, other = template.replace(SLOT, PROBLEM), "another prompt"
    path = saved(tmp_path, [row(own, SOLUTION), row(other, SOLUTION)])
    taken = write_rows(path, str(model_folder), template, tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [(PROBLEM, SOLUTION)]
    assert taken.text().splitlines()[1:] == ["1 left out, not in the prompt that was given: rows 2"]


def test_rows_of_another_model_are_refused(model_folder: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, [row("Q: a\n", "b"), Row("", [len(WORDS), END], [IGNORED, END])])
    with pytest.raises(DataError, match=r"row 2 has the token \d+, and the tokenizer .* give the model"):
        write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_nothing_that_is_there_is_replaced(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="it exists already"):
        write_rows(saved(tmp_path, [row("Q: a\n", "b")]), str(model_folder), None, tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == "mine"


def test_what_was_cut_or_masked_is_named(model_folder: Path, tmp_path: Path) -> None:
    whole, long = row("Q: a\n", "b"), row("Q: a\n", "b" * 60)
    cut = Row("", long.input_ids[:40], long.labels[:40])
    masked = Row("", whole.input_ids, [IGNORED] * len(whole.labels))
    twice = Row("", [*whole.input_ids, *whole.input_ids], [*whole.labels, *whole.labels])
    silent = Row("", [*whole.input_ids], [*whole.input_ids])
    path = saved(tmp_path, [whole, cut, masked, twice, masked, silent], length=40)
    taken = write_rows(path, str(model_folder), "Q: {problem}\n", tmp_path / "rows.jsonl")
    assert texts(tmp_path / "rows.jsonl") == [("a", "b")]
    assert taken.text().splitlines() == [
        "1 rows, 1 in the prompt",
        "2 left out, no token to learn: rows 3, 5",
        "1 left out, cut off: its last token is no end token: rows 2",
        "1 left out, several answers in one row: rows 4",
        "1 left out, no text before or behind the first token to learn: rows 6",
    ]


def test_without_a_row_nothing_is_written(model_folder: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, [Row("", [5, 6], [IGNORED, IGNORED])])
    with pytest.raises(DataError, match="no row is left\n0 rows\n1 left out, no token to learn: rows 1"):
        write_rows(path, str(model_folder), None, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_runs_rows_come_back_and_are_trained_on(model_folder: Path, tmp_path: Path) -> None:
    model = {"name": str(model_folder), "dtype": "float32"}
    data = {"kinds": ["add", "area"], "quota": {"default": 6}, "max_tokens": 1000, "split": {"dev": 1, "test": 1}}
    first = {"model": model, "data": {"synth": {"rows": 200}, "styles": {"default": "longhand"}, **data}}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first), encoding="utf-8")
    ok("data", tmp_path / "first.yaml", "--run", tmp_path / "first")
    ok("export", tmp_path / "first", "--to", "mindrecord", "--seq-length", 700, "--out", tmp_path / "set")
    rows, prompt = tmp_path / "rows.jsonl", "Question: {problem}\nAnswer:\n"
    path = tmp_path / "set" / "train-700.mindrecord"
    told = keeptune("import", path, "--model", model_folder, "--prompt", prompt, "--out", rows)
    exported = json.loads((tmp_path / "set" / "about.json").read_text(encoding="utf-8"))["rows"]
    assert told.out == f"{exported} rows, {exported} in the prompt\n"
    quota = {**data, "quota": {"default": 3}}
    second = {"model": model, "data": {"files": ["rows.jsonl"], **quota}}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second), encoding="utf-8")
    ok("data", tmp_path / "second.yaml", "--run", tmp_path / "second")
    card = json.loads((tmp_path / "second" / "data" / "card.json").read_text(encoding="utf-8"))
    assert (card["rows_read"], card["rows_rejected"]) == (exported, 0)
