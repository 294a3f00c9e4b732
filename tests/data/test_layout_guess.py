"""What `keeptune init` takes for the problem and its solution in columns of any name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from keeptune.data.columns import RowLayout
from keeptune.data.layout_guess import guess_layout, require_header
from keeptune.data.reader import RawRow, read_shard
from keeptune.data.sample import sample_rows
from keeptune.data.sources import Shard
from keeptune.errors import DataError

SPAN = {"text": ["Oslo", "in Oslo"], "answer_start": [3, 0]}

CASES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    # The passage was the answer to train on, and the answers were dropped.
    "squad": ({"id": "7", "title": "T", "context": "C", "question": "Q", "answers": SPAN}, ("C\n\nQ", "Oslo")),
    "answers-list": ({"id": "7", "question": "Q", "answers": ["a", "b"]}, ("Q", "a")),
    # The rejected answer was trained on.
    "preference": ({"prompt": "Q", "chosen": "good", "rejected": "bad"}, ("Q", "good")),
    "preference-query": ({"query": "Q", "response": "good", "rejected": "bad"}, ("Q", "good")),
    # Columns that a problem cannot do without were dropped.
    "dolly": ({"instruction": "I", "context": "C", "response": "R"}, ("C\n\nI", "R")),
    "sql-context": (
        {"question": "Q", "context": "CREATE TABLE t (a)", "answer": "SELECT"},
        ("CREATE TABLE t (a)\n\nQ", "SELECT"),
    ),
    "entailment": ({"premise": "P", "hypothesis": "H", "label": "yes"}, ("P\n\nH", "yes")),
    "options": ({"question": "Q", "choices": ["x", "y"], "answer": 1}, ("Q\n\n0. x\n1. y", "1")),
    "options-letters": ({"question": "Q", "options": ["x", "y"], "answer": "B"}, ("Q\n\nA. x\nB. y", "B")),
    "option-columns": ({"question": "Q", "A": "x", "B": "y", "answer": "B"}, ("Q\n\nA. x\nB. y", "B")),
    # Options were numbered from 0 where answers count from 1, or are digits in a text, and lettered by other columns.
    "options-from-1": ({"question": "Q", "options": ["x", "y"], "answer": 2}, ("Q\n\n1. x\n2. y", "2")),
    "options-index-text": ({"question": "Q", "options": ["x", "y"], "answer": "0"}, ("Q\n\n0. x\n1. y", "0")),
    "options-correct": ({"question": "Q", "options": ["x", "y"], "correct": "B"}, ("Q\n\nA. x\nB. y", "B")),
    # The number or the date of the row was the problem.
    "id-first": ({"id": "r7", "source": "cat", "target": "Katze"}, ("cat", "Katze")),
    "date-first": ({"date": "2026-01-01", "comment": "good film", "label": "good"}, ("good film", "good")),
    "pandas-index": ({"Unnamed: 0": "7", "english": "cat", "target": "chat"}, ("cat", "chat")),
    # The second text was dropped.
    "pair-of-sentences": ({"sentence1": "S", "sentence2": "T", "label": "yes"}, ("S\n\nT", "yes")),
    "reading": ({"article": "A", "question": "Q", "answer": "yes"}, ("A\n\nQ", "yes")),
    # Another column was trained as the answer.
    "correct-answer": ({"question": "Q", "correct_answer": "A", "support": "S"}, ("S\n\nQ", "A")),
    "ground-truth": ({"question": "Q", "ground_truth": "A", "difficulty": "easy"}, ("Q", "A")),
    "no-context": ({"question": "Q", "context": "", "answer": "A"}, ("Q", "A")),
    "alpaca": ({"instruction": "I", "input": "X", "output": "O"}, ("I\n\nX", "O")),
    # The name of the function was the answer to train on.
    "code": (
        {"task_id": "t", "prompt": "P", "canonical_solution": "C", "test": "assert", "entry_point": "f"},
        ("P", "C"),
    ),
    "summary": ({"article": "A", "highlights": "H", "id": "7"}, ("A", "H")),
    # Columns of objects were refused.
    "object": ({"id": "7", "data": {"question": "Q", "answer": "A", "source": "S"}}, ("Q", "A")),
}


def write(folder: Path, row: dict[str, Any], count: int = 8) -> Path:
    """A file of rows that differ in the first text only."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for _ in range(count)), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CASES)
def test_columns_are_found(tmp_path: Path, name: str) -> None:
    row, expected = CASES[name]
    path = write(tmp_path, row)
    guess = guess_layout(str(path), sample_rows(str(path), RowLayout()).rows)
    rows = list(read_shard(Shard(str(path)), guess.layout))
    assert [(row.problem, row.solution) for row in rows if isinstance(row, RawRow)] == [expected] * 8


@pytest.mark.parametrize(
    "row",
    [
        # The answers were the column `url`: its name is no answer's, and it is the same in all rows.
        {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}},
        {"text": "All in one.", "id": "7"},
        {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []},
    ],
)
def test_no_answer_is_invented(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path, row)
    with pytest.raises(DataError, match="no two columns"):
        guess_layout(str(path), sample_rows(str(path), RowLayout()).rows)


@pytest.mark.parametrize(
    ("row", "odd"),
    [
        ({"instruction": "I", "output": "O"}, {"instruction": "I"}),
        ({"text": "T", "label": "pos", "source": "web"}, {"text": "T", "label": None, "source": "web"}),
        ({"id": "7", "question": "Q", "response": "R"}, {"id": "7", "question": None, "response": "R"}),
        ({"question": "Q", "context": "C", "answer": "A"}, {"question": "Q", "context": None, "answer": "A"}),
        ({"prompt": "P", "response": "R"}, {"version": "1.0"}),
    ],
)
def test_one_odd_row_changes_no_layout(tmp_path: Path, row: dict[str, Any], odd: dict[str, Any]) -> None:
    """A single null made `source` the answer, `id` the problem, or dropped the context of all rows."""
    guesses = []
    for name, rows in (("usual", [row] * 20), ("odd", [*[row] * 19, odd])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        guesses.append(guess_layout(str(path), sample_rows(str(path), RowLayout()).rows))
    usual, with_odd = guesses
    assert with_odd.layout.columns == usual.layout.columns
    assert set(with_odd.layout.ignored) - set(usual.layout.ignored) <= set(odd)


def test_a_pair_in_an_object(tmp_path: Path) -> None:
    """Without names to go by, the answer must change; so the rows differ."""
    path = tmp_path / "rows.jsonl"
    rows = [{"translation": {"en": f"cat {number}", "zh": f"猫 {number}"}} for number in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    guess = guess_layout(str(path), sample_rows(str(path), RowLayout()).rows)
    assert (guess.layout.columns.problem, guess.layout.columns.solution) == ("translation.en", "translation.zh")
    assert guess.layout.ignored == ()


@pytest.mark.parametrize(
    ("lines", "cell"),
    [
        (["what is the first fruit?,apple", "what is the next fruit?,pear"], "what is the first fruit?"),
        (["good film,pos", "bad film,neg", "fine film,pos"], "pos"),
        (["3+4,7", "5+6,11"], "7"),
        (["第一个水果的名字是什么，请你回答？,苹果", "第二个水果的名字是什么，请你回答？,梨"], "第一个水果"),
    ],
)
def test_a_table_without_header_is_refused(tmp_path: Path, lines: list[str], cell: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        DataError, match=f"rows.csv:1: the first line is a row and no header: found .*{re.escape(cell)}"
    ):
        require_header(str(path), sample_rows(str(path), RowLayout()).rows)


@pytest.mark.parametrize(
    "lines",
    [
        ["question,answer", "3+4,7"],
        ["What is your question?,Your answer?", "Where is it,here"],
        ["0,1", "3+4,7", "5+6,1"],
        ["problem,", "3+4,"],
    ],
)
def test_a_header_is_no_row(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    require_header(str(path), sample_rows(str(path), RowLayout()).rows)
