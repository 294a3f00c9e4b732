"""Row formats: each small file gives its rows and its rejected rows; rows read are rows kept and rows rejected."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keeptune.config.data import ColumnsSection
from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sources import Shard, resolve_sources
from keeptune.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "Be brief."}
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "x.png"}}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def chat(*turns: object, **others: object) -> dict[str, object]:
    return {"messages": list(turns), **others}


def talk(*turns: object, **others: object) -> dict[str, object]:
    return {"conversations": list(turns), **others}


def alpaca(**fields: object) -> dict[str, object]:
    return {"instruction": "q", "input": "", "output": "a", **fields}


def pair(prompt: object, completion: object, **others: object) -> dict[str, object]:
    return {"prompt": prompt, "completion": completion, **others}


GOOD: dict[str, tuple[dict[str, object], tuple[str, str]]] = {
    "messages": (chat(USER, ASSISTANT), ("q", "a")),
    "messages-id": (chat(USER, ASSISTANT, id=7), ("q", "a")),
    "messages-empty-keys": (chat(USER, {**ASSISTANT, "tool_calls": None, "name": ""}, tools=[], meta=None), ("q", "a")),
    "messages-blank-system": (chat({"role": "system", "content": " "}, USER, ASSISTANT), ("q", "a")),
    "messages-number": (chat(USER, {"role": "assistant", "content": 1.50}), ("q", "1.5")),
    "messages-wrapper-is-text": (
        chat({"role": "user", "content": "Passage.\nInstruction: sum up"}, ASSISTANT),
        ("Passage.\nInstruction: sum up", "a"),
    ),
    # Files of strangers: roles by other names and in capitals, parts of text, weights, turns as JSON text.
    "messages-model": (chat(USER, {"role": "model", "content": "a"}), ("q", "a")),
    "messages-capitals": (chat({"role": "User", "content": "q"}, {"role": "ASSISTANT", "content": "a"}), ("q", "a")),
    "messages-parts": (
        chat({"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "q"}]}, ASSISTANT),
        ("p\nq", "a"),
    ),
    "messages-weight": (chat(USER, {**ASSISTANT, "weight": 1}), ("q", "a")),
    # Preference rows without pairs (KTO): `init` ignored `label`, so that bad answers were trained on.
    "messages-label": (chat(USER, ASSISTANT, label=True), ("q", "a")),
    "completion-label": (pair("q", "a", label=True), ("q", "a")),
    "completion-label-text": (pair("q", "a", label="True"), ("q", "a")),
    "messages-as-text": ({"messages": json.dumps([USER, ASSISTANT])}, ("q", "a")),
    "sharegpt-chatgpt": (talk(HUMAN, {"from": "chatgpt", "value": "a"}), ("q", "a")),
    "sharegpt-number-id": (talk(HUMAN, GPT, id=7), ("q", "a")),
    "prompt-turns-and-text": (pair([USER], "a"), ("q", "a")),
    "prompt-text-and-turns": (pair("q", [ASSISTANT]), ("q", "a")),
    "preference-texts": ({"prompt": "q", "chosen": "a"}, ("q", "a")),
    "preference-turns": ({"prompt": "q", "chosen": [USER, ASSISTANT]}, ("q", "a")),
    "preference-answer-turn": ({"prompt": [USER], "chosen": [ASSISTANT]}, ("q", "a")),
    "preference-no-prompt": ({"chosen": [USER, ASSISTANT]}, ("q", "a")),
    "answer-object": (
        {"question": "q", "answer": {"n": 1.50, "l": ["é", None]}},
        ("q", '{"n": 1.5, "l": ["é", null]}'),
    ),
    "sharegpt": (talk(HUMAN, GPT), ("q", "a")),
    "sharegpt-id": (talk(HUMAN, GPT, id="x"), ("q", "a")),
    "sharegpt-user": (talk({"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}), ("q", "a")),
    "sharegpt-role-content": (talk(USER, ASSISTANT), ("q", "a")),
    "sharegpt-wrapper-is-text": (
        talk({"from": "human", "value": "Passage.\n### Instruction:\nsum up"}, GPT),
        ("Passage.\n### Instruction:\nsum up", "a"),
    ),
    "alpaca": (alpaca(), ("q", "a")),
    "alpaca-input": (alpaca(input="context"), ("q\n\ncontext", "a")),
    "alpaca-without-input": ({"instruction": "q", "output": "a"}, ("q", "a")),
    "alpaca-null-input": (alpaca(input=None, system="", history=[]), ("q", "a")),
    "alpaca-boolean": (alpaca(output=True), ("q", "true")),
    "prompt": (pair("q", " a"), ("q", " a")),
    "prompt-messages": (pair([USER], [ASSISTANT]), ("q", "a")),
    "prompt-number": (pair("q", -3), ("q", "-3")),
    "question": ({"question": "q", "answer": "a"}, ("q", "a")),
    "question-boolean": ({"question": "q", "answer": False}, ("q", "false")),
    "problem-number": ({"problem": "q", "solution": 2}, ("q", "2")),
    "problem-null-key": ({"problem": "q", "solution": "a", "hint": None}, ("q", "a")),
}

BAD: dict[str, tuple[object, list[str]]] = {
    "messages-system": (chat(SYSTEM, USER, ASSISTANT), ["a system turn", "'system', 'user', 'assistant'", "one user"]),
    "messages-developer": (chat({"role": "developer", "content": "x"}, USER, ASSISTANT), ["a system turn"]),
    "messages-two-pairs": (chat(USER, ASSISTANT, USER, ASSISTANT), ["more than one", "'user', 'assistant', 'user'"]),
    "messages-no-answer": (chat(USER), ["not a user turn", "'user'"]),
    "messages-reversed": (chat(ASSISTANT, USER), ["not a user turn", "'assistant', 'user'"]),
    "messages-tool-calls": (
        chat(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}),
        ["tool calls", "'assistant'"],
    ),
    "messages-tool-result": (chat(USER, {"role": "tool", "content": "4"}, ASSISTANT), ["tool calls", "'tool'"]),
    "messages-tools": (chat(USER, ASSISTANT, tools=[CALL]), ["tool calls", "'tools'"]),
    "messages-label": (chat(USER, ASSISTANT, label=False), ["calls its answer bad", "label"]),
    "completion-label": (pair("q", "a", label=False), ["calls its answer bad"]),
    "completion-label-text": (pair("q", "a", label="FALSE"), ["calls its answer bad"]),
    "completion-label-number": (pair("q", "a", label=2), ["neither true nor false", "a number", "ignore_columns"]),
    "completion-label-list": (pair("q", "a", label=[True]), ["neither true nor false", "a list", "ignore_columns"]),
    "messages-image": (
        chat({"role": "user", "content": [{"type": "text", "text": "q"}, IMAGE]}, ASSISTANT),
        ["problem is not a text", "'text', 'image_url'"],
    ),
    "messages-null": (chat(USER, {"role": "assistant", "content": None}), ["solution is not a text", "null"]),
    "messages-number-as-question": (chat({"role": "user", "content": 1}, ASSISTANT), ["problem is not", "a number"]),
    "messages-empty-text": (chat(USER, {"role": "assistant", "content": " "}), ["solution is empty"]),
    "messages-role": (chat(USER, {"role": "judge", "content": "a"}), ["unknown role", "'judge'", "'assistant'"]),
    "messages-thought": (chat(USER, {**ASSISTANT, "thinking": "hm"}), ["would be dropped", "'thinking'"]),
    "messages-extra": (chat(USER, ASSISTANT, source="web"), ["would be dropped", "'source'", "'messages'"]),
    "messages-empty": (chat(), ["not a list of turns", "an empty list"]),
    "messages-text": ({"messages": "q"}, ["not a list of turns", "a text"]),
    "messages-turn": (chat("q", "a"), ["a turn is not an object", "a text"]),
    "messages-no-role": (chat({"content": "q"}, ASSISTANT), ["a turn has no role", "'content'", "'role'"]),
    "sharegpt-system": (talk({"from": "system", "value": "x"}, HUMAN, GPT, id="1"), ["a system turn", "'human'"]),
    "sharegpt-system-key": (talk(HUMAN, GPT, system="x"), ["a system turn", "'system'"]),
    "sharegpt-call": (talk(HUMAN, {"from": "function_call", "value": "{}"}, GPT), ["tool calls", "'function_call'"]),
    "sharegpt-two-pairs": (talk(HUMAN, GPT, HUMAN, GPT), ["more than one", "'gpt'"]),
    "alpaca-system": (alpaca(system="x"), ["a system turn", "'system'"]),
    "alpaca-history": (alpaca(history=[["q", "a"]]), ["more than one turn", "'history'"]),
    "alpaca-input": (alpaca(input=["x"]), ["input is not a text", "a list"]),
    "alpaca-instruction": (alpaca(instruction=""), ["instruction is empty"]),
    "alpaca-text": (alpaca(text="rendered"), ["would be dropped", "'text'", "'instruction', 'output', 'input'"]),
    "prompt-system": (pair([SYSTEM, USER], [ASSISTANT]), ["a system turn"]),
    "prompt-null": (pair("q", None), ["solution is not a text", "null"]),
    "preference": ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["would be dropped", "'rejected'", "'chosen'"]),
    "preference-no-prompt": ({"chosen": "Human: q Assistant: a"}, ["no question", "a text", "'prompt'"]),
    "preference-no-answer": ({"chosen": [USER]}, ["not a user turn"]),
    "weight-0": (chat(USER, {**ASSISTANT, "weight": 0}), ["would be dropped", "'weight'"]),
    "weight-unknown": (chat(USER, {**ASSISTANT, "weight": 0.5}), ["not 0 or 1", "0.5"]),
    "functions": (chat(USER, ASSISTANT, functions=[{"name": "add"}]), ["tool calls", "'functions'"]),
    "text-of-turns": ({"messages": '[{"role": "user"'}, ["malformed JSON", "turns"]),
    "answer-list": ({"question": "q", "answer": ["a", "b"]}, ["solution is not a text", "NAME.0"]),
    "answer-objects": ({"question": "q", "answer": [{"text": "a"}]}, ["solution is not a text", "NAME.0.text"]),
    "part-without-text": (
        chat({"role": "user", "content": [{"type": "text", "text": "q", "url": "x"}]}, ASSISTANT),
        ["not a text"],
    ),
    "unknown": ({"问题": "q", "回答": "a"}, ["no row format", "'问题'", "'messages'"]),
    "half-a-character": ({"\ud800": "q"}, ["no row format"]),
    "duplicate-key": ('{"messages": [{"role": "user", "role": "user", "content": "q"}]}', ["occurs twice"]),
    "question-extra": ({"question": "q", "answer": "a", "id": 1}, ["would be dropped", "'id'", "data.ignore_columns"]),
    "question-list": (
        {"question": "q", "answer": {"text": ["a"]}},
        ["solution is not a text", "an object", "NAME.text.0"],
    ),
}


def write_lines(path: Path, items: list[object]) -> None:
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items), encoding="utf-8")


def write_list(path: Path, items: list[object]) -> None:
    texts = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=True) for item in items]
    path.write_text("[" + ",\n".join(texts) + "]", encoding="utf-8")


shapes = pytest.mark.parametrize("write", [write_lines, write_list])


@shapes
@pytest.mark.parametrize("name", GOOD)
def test_good_rows(tmp_path: Path, name: str, write: Callable[[Path, list[object]], None]) -> None:
    item, expected = GOOD[name]
    path = tmp_path / "rows.json"
    write(path, [item])
    assert list(read_rows(path)) == [RawRow(str(path), 1, *expected)]


@shapes
@pytest.mark.parametrize("name", BAD)
def test_bad_rows(tmp_path: Path, name: str, write: Callable[[Path, list[object]], None]) -> None:
    item, words = BAD[name]
    path = tmp_path / "rows.json"
    good = chat(USER, ASSISTANT)
    write(path, [good, item, good])
    before, bad, after = read_rows(path)
    assert isinstance(before, RawRow) and isinstance(after, RawRow) and isinstance(bad, RejectedRow)
    assert (bad.file, bad.line) == (str(path), 2)
    assert [word for word in words if word not in bad.reason] == []
    json.dumps(bad.reason, ensure_ascii=False).encode()


def test_every_row_is_kept_or_rejected(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    items = [item for item, _ in [*GOOD.values(), *BAD.values()]]
    write_lines(path, items)
    rows = [row for shard in resolve_sources([str(path)], 500).shards for row in read_shard(shard, RowLayout())]
    assert [row.line for row in rows] == list(range(1, len(items) + 1))
    assert [isinstance(row, RawRow) for row in rows] == [True] * len(GOOD) + [False] * len(BAD)


def test_numbers_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    answers = ["1.50", "1e3", "-0", "9" * 5000]
    write_lines(path, [f'{{"question": "q", "answer": {answer}}}' for answer in answers])
    assert [row.solution for row in read_rows(path) if isinstance(row, RawRow)] == answers


def test_named_columns_are_read_instead_of_a_known_format(tmp_path: Path) -> None:
    layout = RowLayout(ColumnsSection(problem="messages", solution="answer"), ignored=("n",))
    path = tmp_path / "rows.jsonl"
    write_lines(
        path,
        [{"messages": "q", "n": 1, "answer": "a"}, {"messages": "q", "answer": 5}, {"messages": [], "answer": "a"}],
    )
    rows = list(read_shard(Shard(str(path)), layout))
    assert rows[0] == RawRow(str(path), 1, "q", "a")
    assert rows[1] == RawRow(str(path), 2, "q", "5")
    assert isinstance(rows[2], RejectedRow) and "an empty list" in rows[2].reason


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.csv", b"question,answer\nq,1.50\nq,\n", [("q", "1.50"), "solution is empty"]),
        ("rows.csv", b"output,instruction,input\na,q,\na,q,c\n", [("q", "a"), ("q\n\nc", "a")]),
        ("rows.csv", b"prompt,completion\nq, a\n", [("q", " a")]),
        ("rows.csv", b"instruction,output,system\nq,a,\nq,a,x\n", [("q", "a"), "a system turn"]),
        ("rows.csv", b"messages\nq\n", ["not a list of turns"]),
        ("rows.parquet", parquet({"question": ["q"], "answer": [2]}), [("q", "2")]),
        ("rows.parquet", parquet({"problem": ["q"], "solution": [True]}), [("q", "true")]),
        ("rows.parquet", parquet({"prompt": ["q"], "completion": [Decimal("1.50")]}), [("q", "1.50")]),
        ("rows.parquet", parquet({"question": ["q"], "answer": [float("nan")]}), ["solution is not a text"]),
        (
            "rows.parquet",
            parquet({"messages": [[USER, ASSISTANT], [SYSTEM, USER, ASSISTANT], None], "id": [1, 2, 3]}),
            [("q", "a"), "a system turn", "not a list of turns"],
        ),
        (
            "rows.parquet",
            parquet({"messages": [[USER, {**ASSISTANT, "tool_calls": [CALL]}], [USER, ASSISTANT]]}),
            ["tool calls", ("q", "a")],
        ),
        ("rows.parquet", parquet({"conversations": [[HUMAN, GPT], [HUMAN, GPT] * 2]}), [("q", "a"), "more than one"]),
    ],
)
def test_tables(tmp_path: Path, name: str, content: bytes, expected: list[tuple[str, str] | str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    rows = list(read_rows(path))
    assert len(rows) == len(expected)
    for row, outcome in zip(rows, expected, strict=True):
        if isinstance(row, RawRow):
            assert (row.problem, row.solution) == outcome
        else:
            assert isinstance(outcome, str) and outcome in row.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"question,answer,hint\nq,a,h\n", ["'hint'", "data.columns"]),
        (b"instruction,output,text\nq,a,t\n", ["'text'", "'input'"]),
        (b"question,answer,answer\nq,a,a\n", ["more than once 'answer'"]),
        (b"q,a\nq,a\n", ["'q', 'a'", "'messages'"]),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert [word for word in (str(path), *words) if word not in str(caught.value)] == []
