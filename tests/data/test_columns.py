"""Columns by template and nested name, columns that would be dropped, TSV, JSON objects with a list, and formats."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keeptune.config.data import ColumnsSection
from keeptune.config.recipe import parse
from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_shard
from keeptune.data.sample import detect_format
from keeptune.data.sources import resolve_sources
from keeptune.errors import DataError, RecipeError

ARTICLE = {
    "title": "T",
    "body": "B",
    "meta": {"lang": "en", "n": 3},
    "answers": {"text": ["a", "b"], "start": [1, 2]},
    "right": True,
}
ALL = ("all",)


def read(path: Path, content: bytes | str, layout: RowLayout) -> list[RawRow | RejectedRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [row for shard in resolve_sources([str(path)], 50).shards for row in read_shard(shard, layout)]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def columns(problem: str, solution: str, ignored: tuple[str, ...] = ALL) -> RowLayout:
    return RowLayout(ColumnsSection(problem=problem, solution=solution), ignored)


@pytest.mark.parametrize("shape", ["jsonl", "list", "parquet"])
@pytest.mark.parametrize(
    ("problem", "solution", "expected"),
    [
        ("{title}\n{body}", "answers.text.0", ("T\nB", "a")),
        ("{title} ({meta.lang}, {meta.n})", "right", ("T (en, 3)", "true")),
        ("{{{title}}} {", "meta.n", ("{T} {", "3")),
        ("title", "{body}: {right}", ("T", "B: true")),
    ],
)
def test_templates_and_nested_names(
    tmp_path: Path, shape: str, problem: str, solution: str, expected: tuple[str, str]
) -> None:
    content = {"jsonl": json.dumps(ARTICLE), "list": json.dumps([ARTICLE]), "parquet": parquet([ARTICLE])}[shape]
    path = tmp_path / ("rows.parquet" if shape == "parquet" else "rows.json")
    (row,) = read(path, content, columns(problem, solution))
    assert row == RawRow(str(path), 1, *expected)


@pytest.mark.parametrize(
    ("problem", "solution", "words"),
    [
        ("{title}\n{text}", "body", ["missing: text", "'answers'", "expected 'body', 'text', 'title'"]),
        ("title", "answers.text.7", ["solution is not a text", "null"]),
        ("title", "answers.text", ["solution is not a text", "a list"]),
        ("{meta}", "body", ["'meta' is an object"]),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, problem: str, solution: str, words: list[str]) -> None:
    (row,) = read(tmp_path / "rows.jsonl", json.dumps(ARTICLE), columns(problem, solution))
    assert isinstance(row, RejectedRow) and row.line == 1
    assert [word for word in words if word not in row.reason] == []


@pytest.mark.parametrize("answer", [7, 1.5, False])
def test_answers_of_named_columns_may_be_numbers(tmp_path: Path, answer: float | bool) -> None:
    layout = columns("q", "a", ())
    rows = [{"q": "x", "a": answer}]
    for name, content in (("rows.jsonl", json.dumps(rows[0])), ("rows.parquet", parquet(rows))):
        (row,) = read(tmp_path / name, content, layout)
        assert isinstance(row, RawRow) and row.solution == str(answer).lower()


DROPPED = {"question": "q", "answer": "a", "source": "web", "id": 3}


@pytest.mark.parametrize("layout", [RowLayout(), columns("question", "answer", ())])
def test_a_column_that_nothing_uses_is_an_error_that_names_it(tmp_path: Path, layout: RowLayout) -> None:
    (row,) = read(tmp_path / "rows.jsonl", json.dumps(DROPPED), layout)
    assert isinstance(row, RejectedRow)
    assert "'source', 'id'" in row.reason and "data.ignore_columns" in row.reason
    for name, content in (("rows.csv", "question,answer,source,id\nq,a,web,3\n"), ("rows.parquet", parquet([DROPPED]))):
        with pytest.raises(DataError, match="'source', 'id'") as caught:
            read(tmp_path / name, content, layout)
        assert "data.ignore_columns" in str(caught.value)


@pytest.mark.parametrize("ignored", [ALL, ("source", "id"), ("id", "source", "never")])
@pytest.mark.parametrize("named", [False, True])
def test_ignored_columns_are_dropped(tmp_path: Path, ignored: tuple[str, ...], named: bool) -> None:
    layout = columns("question", "answer", ignored) if named else RowLayout(ignored=ignored)
    for name, content in (("r.jsonl", json.dumps(DROPPED)), ("r.csv", "question,answer,source,id\nq,a,web,3\n")):
        assert read(tmp_path / name, content, layout)[0][2:4] == ("q", "a")  # type: ignore[index]


def test_ignored_context_is_still_context(tmp_path: Path) -> None:
    """`all` allows unknown keys to be dropped, and no system text, which the format knows."""
    row = {"instruction": "q", "output": "a", "system": "s", "note": "n"}
    (rejected,) = read(tmp_path / "rows.jsonl", json.dumps(row), RowLayout(ignored=ALL))
    assert isinstance(rejected, RejectedRow) and "'system'" in rejected.reason


def test_tsv(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    rows = read(path, 'question\tanswer\nq, r\ta\n"x\ny"\tb\nlonely\n', RowLayout())
    assert rows[:2] == [RawRow(str(path), 2, "q, r", "a"), RawRow(str(path), 3, "x\ny", "b")]
    assert isinstance(rows[2], RejectedRow) and "found 1, expected 2" in rows[2].reason


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_object_with_a_list_of_rows(tmp_path: Path, indent: int | None, name: str) -> None:
    path = tmp_path / name
    items: list[Any] = [{"question": f"q{n}", "answer": n} for n in range(20)] + [{"question": "x"}]
    content = json.dumps({"version": "1", "data": items, "tags": ["a"]}, indent=indent)
    rows = read(path, content, RowLayout())
    assert [row.line for row in rows] == list(range(1, 22))
    assert [isinstance(row, RawRow) for row in rows] == [True] * 20 + [False]
    assert detect_format(str(path), RowLayout()) == "JSON list under 'data', question-answer"


def test_an_object_with_several_lists_is_refused(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}]
    with pytest.raises(DataError, match="'train', 'test'"):
        read(tmp_path / "rows.json", json.dumps({"train": rows, "test": rows}), RowLayout())


@pytest.mark.parametrize("line", ['{"messages": [{"role": "user"', '{"question": "q", "answer":'])
def test_a_truncated_first_line_costs_one_row(tmp_path: Path, line: str) -> None:
    good = json.dumps({"question": "q", "answer": "a"})
    rows = read(tmp_path / "rows.jsonl", f"{line}\n{good}\n{good}", RowLayout())
    assert [isinstance(row, RawRow) for row in rows] == [False, True, True]


def test_a_single_row_with_a_list_is_a_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path = tmp_path / "rows.jsonl"
    assert read(path, json.dumps({"messages": turns}), RowLayout()) == [RawRow(str(path), 1, "q", "a")]


def test_a_format_that_the_recipe_fixes(tmp_path: Path) -> None:
    lines = [{"question": "q", "answer": "a"}, {"prompt": "p", "completion": "c"}]
    rows = read(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, lines)), RowLayout(format="prompt-completion"))
    assert isinstance(rows[0], RejectedRow) and isinstance(rows[1], RawRow)
    assert "data.format: prompt-completion" in rows[0].reason and "'question', 'answer'" in rows[0].reason
    with pytest.raises(DataError, match="lacks 'messages'"):
        read(tmp_path / "rows.csv", "question,answer\nq,a\n", RowLayout(format="messages"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.jsonl",
            '{"messages": []}\n{"prompt": "p", "completion": "c"}',
            "JSON Lines, messages and prompt-completion",
        ),
        ("a.json", '[{"instruction": "q", "output": "a"}]', "JSON list, alpaca"),
        ("a.csv", "question,answer\nq,a\n", "CSV, question-answer"),
        ("a.tsv", "x\ty\nq\ta\n", "TSV, unknown keys"),
        ("a.parquet", parquet([{"problem": "q", "solution": "a"}]), "Parquet, problem-solution"),
    ],
)
def test_detected_formats(tmp_path: Path, name: str, content: bytes | str, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert detect_format(str(path), RowLayout()) == expected


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"format": "messages", "columns": {"problem": "q"}}, "data.format"),
        ({"format": "chatml"}, "data.format"),
        ({"columns": {"problem": "q"}, "ignore_columns": ["q"]}, "data.ignore_columns"),
    ],
)
def test_settings_that_contradict_each_other(data: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        parse({"data": {"files": ["a"], **data}}, "recipe.yaml")
