"""Conversation files under a chat prompt: each row is read, or refused with its place and reason."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompts.chat_templates import FAMILIES

from keeptune.config.recipe import Recipe
from keeptune.data.columns import RowLayout
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sources import Shard
from keeptune.prompts.chat_prompt import chat_prompt, end_token_ids
from keeptune.prompts.token_count import TokenCounter, special_tokens
from keeptune.skills.text import Text

SYSTEM = {"role": "system", "content": "Be brief."}
USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
MORE = [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
READ_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
READ_CALLING = {"role": "assistant", "content": "", "tool_calls": [READ_CALL]}
RESULT = {"role": "tool", "content": "2", "tool_call_id": "c1"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL_TEXT = '{"name": "add", "arguments": {"a": 1}}'


def chat(*turns: object, **others: object) -> dict[str, object]:
    return {"messages": list(turns), **others}


def talk(*turns: object, **others: object) -> dict[str, object]:
    return {"conversations": list(turns), **others}


def alpaca(**fields: object) -> dict[str, object]:
    return {"instruction": "q2", "input": "", "output": "a2", **fields}


Messages = list[dict[str, Any]]
GOOD: dict[str, tuple[object, Messages | None, Any, tuple[str, str]]] = {
    # name: row, messages, tools, (problem, solution); no messages where the row is a question and its answer
    "single": (chat(USER, ASSISTANT), None, None, ("q", "a")),
    "single-sharegpt": (talk(HUMAN, GPT, id="1"), None, None, ("q", "a")),
    "single-alpaca": (alpaca(input="c"), None, None, ("q2\n\nc", "a2")),
    "single-pair": ({"prompt": "q", "completion": "a"}, None, None, ("q", "a")),
    "single-columns": ({"question": "q", "answer": 5}, None, None, ("q", "5")),
    "blank-system": (chat({"role": "system", "content": ""}, USER, ASSISTANT), None, None, ("q", "a")),
    "system": (chat(SYSTEM, USER, ASSISTANT), [SYSTEM, USER, ASSISTANT], None, ("user: q", "a")),
    "developer": (
        chat({"role": "developer", "content": "Be brief."}, USER, ASSISTANT),
        [SYSTEM, USER, ASSISTANT],
        None,
        ("user: q", "a"),
    ),
    "two-pairs": (
        chat(USER, ASSISTANT, *MORE),
        [USER, ASSISTANT, *MORE],
        None,
        ("user: q\nassistant: a\nuser: q2", "a2"),
    ),
    "two-users": (chat(USER, USER, ASSISTANT), [USER, USER, ASSISTANT], None, ("user: q\nuser: q", "a")),
    "number": (
        chat(USER, ASSISTANT, MORE[0], {"role": "assistant", "content": 1.5}),
        [USER, ASSISTANT, MORE[0], {"role": "assistant", "content": "1.5"}],
        None,
        ("user: q\nassistant: a\nuser: q2", "1.5"),
    ),
    "tools-unused": (chat(USER, ASSISTANT, tools=[TOOL]), [USER, ASSISTANT], [TOOL], ("user: q", "a")),
    "tools-as-text": (chat(USER, ASSISTANT, tools=json.dumps([TOOL])), [USER, ASSISTANT], [TOOL], ("user: q", "a")),
    "tool-call": (chat(USER, CALLING, tools=[TOOL]), [USER, READ_CALLING], [TOOL], ("user: q", CALL_TEXT)),
    "tool-result": (
        chat(USER, CALLING, RESULT, ASSISTANT, tools=[TOOL]),
        [USER, READ_CALLING, RESULT, ASSISTANT],
        [TOOL],
        (f"user: q\nassistant: {CALL_TEXT}\ntool: 2", "a"),
    ),
    "call-with-text": (
        chat(USER, {**CALLING, "content": "Let me see."}),
        [USER, {**READ_CALLING, "content": "Let me see."}],
        None,
        ("user: q", f"Let me see.\n{CALL_TEXT}"),
    ),
    "function-call": (
        chat(USER, {"role": "assistant", "content": None, "function_call": CALL["function"]}),
        [USER, {**READ_CALLING, "tool_calls": [{"type": "function", "function": READ_CALL["function"]}]}],
        None,
        ("user: q", CALL_TEXT),
    ),
    "reasoning": (
        chat(USER, {**ASSISTANT, "reasoning_content": "hm"}),
        [USER, {**ASSISTANT, "reasoning_content": "hm"}],
        None,
        ("user: q", "a"),
    ),
    "sharegpt-system": (
        talk({"from": "system", "value": "Be brief."}, HUMAN, GPT, id="1"),
        [SYSTEM, USER, ASSISTANT],
        None,
        ("user: q", "a"),
    ),
    "sharegpt-system-key": (talk(HUMAN, GPT, system="Be brief."), [SYSTEM, USER, ASSISTANT], None, ("user: q", "a")),
    "sharegpt-tools": (
        talk(
            HUMAN, {"from": "function_call", "value": CALL_TEXT}, {"from": "observation", "value": "2"}, GPT,
            tools=json.dumps([TOOL]),
        ),
        [
            USER,
            {**READ_CALLING, "tool_calls": [{"type": "function", "function": READ_CALL["function"]}]},
            {"role": "tool", "content": "2"},
            ASSISTANT,
        ],
        [TOOL],
        (f"user: q\nassistant: {CALL_TEXT}\ntool: 2", "a"),
    ),
    "alpaca-history": (
        alpaca(history=[["q", "a"]]),
        [USER, ASSISTANT, *MORE],
        None,
        ("user: q\nassistant: a\nuser: q2", "a2"),
    ),
    "alpaca-system": (alpaca(system="Be brief."), [SYSTEM, *MORE], None, ("user: q2", "a2")),
    "prompt-messages": (
        {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]},
        [SYSTEM, USER, ASSISTANT],
        None,
        ("user: q", "a"),
    ),
    "prompt-system": (
        {"prompt": "q", "completion": "a", "system": "Be brief."},
        [SYSTEM, USER, ASSISTANT],
        None,
        ("user: q", "a"),
    ),
}  # fmt: skip

BAD: dict[str, tuple[object, list[str]]] = {
    "ends-with-user": (chat(USER, ASSISTANT, USER), ["last turn", "'user', 'assistant', 'user'"]),
    "ends-with-tool": (chat(USER, CALLING, RESULT), ["last turn", "'tool'"]),
    "only-system": (chat(SYSTEM), ["last turn", "'system'"]),
    "starts-with-assistant": (chat(ASSISTANT, USER, ASSISTANT), ["first turn", "'assistant', 'user'"]),
    "late-system": (chat(USER, SYSTEM, ASSISTANT), ["a system turn after"]),
    "result-without-call": (chat(USER, ASSISTANT, RESULT, ASSISTANT), ["without a tool call", "turn 3"]),
    "empty-user": (chat({"role": "user", "content": ""}, ASSISTANT, *MORE), ["turn 1 is empty"]),
    "empty-answer": (chat(USER, ASSISTANT, MORE[0], {"role": "assistant", "content": " "}), ["turn 4"]),
    "null-answer": (chat(SYSTEM, USER, {"role": "assistant", "content": None}), ["not a text", "turn 3"]),
    "image": (
        chat(SYSTEM, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ASSISTANT),
        ["not a text", "turn 2"],
    ),
    "number-question": (chat(SYSTEM, {"role": "user", "content": 1}, ASSISTANT), ["not a text", "turn 2"]),
    "role": (chat(USER, {"role": "judge", "content": "a"}), ["unknown role", "'judge'", "turn 2"]),
    "no-role": (chat({"content": "q"}, ASSISTANT), ["has no role", "'content'", "turn 1"]),
    "text-turn": (chat("q", "a"), ["not an object", "turn 1"]),
    "dropped-key": (chat(USER, {**ASSISTANT, "markdown": "x"}), ["dropped", "'markdown'", "turn 2", "ignore_col"]),
    "last-weight": (chat(USER, ASSISTANT, MORE[0], {**MORE[1], "weight": 0}), ["last answer has weight 0"]),
    "weight-of-user": (chat({**USER, "weight": 0}, ASSISTANT), ["would be dropped", "'weight'", "turn 1"]),
    "tools-twice": (chat(USER, ASSISTANT, tools=[TOOL], functions=[{"name": "add"}]), ["'functions'"]),
    "thought-of-user": (chat({**USER, "reasoning_content": "hm"}, ASSISTANT), ["would be dropped", "'reasoning"]),
    "dropped-column": (chat(SYSTEM, USER, ASSISTANT, source="web"), ["would be dropped", "'source'"]),
    "no-turns": (chat(), ["not a list of turns"]),
    "calls-of-user": (chat({**USER, "tool_calls": [CALL]}, ASSISTANT), ["tool calls in a turn of 'user'"]),
    "calls-not-a-list": (chat(USER, {**ASSISTANT, "tool_calls": "add"}), ["tool_calls is not a list", "turn 2"]),
    "nameless-call": (chat(USER, {**ASSISTANT, "tool_calls": [{"function": {}}]}), ["no function name", "turn 2"]),
    "arguments-not-json": (
        chat(USER, {**ASSISTANT, "tool_calls": [{"function": {"name": "add", "arguments": "{a"}}]}),
        ["malformed JSON", "'add'", "turn 2"],
    ),
    "arguments-a-list": (
        chat(USER, {**ASSISTANT, "tool_calls": [{"function": {"name": "add", "arguments": [1]}}]}),
        ["not an object", "turn 2"],
    ),
    "half-a-character": (
        chat(USER, {**ASSISTANT, "tool_calls": [{"function": {"name": "add", "arguments": '{"a": "\\ud800"}'}}]}),
        ["half a character"],
    ),
    "tools-not-json": (chat(USER, ASSISTANT, tools="[{"), ["malformed JSON in tools"]),
    "tools-not-objects": (chat(USER, ASSISTANT, tools=["add"]), ["tools is not a list of objects"]),
    "sharegpt-call-not-json": (
        talk(HUMAN, {"from": "function_call", "value": "add(1)"}, {"from": "observation", "value": "2"}, GPT),
        ["malformed JSON", "turn 2"],
    ),
    "history-text": (alpaca(history="q: a"), ["history is not a list of pairs"]),
    "history-triple": (alpaca(history=[["q", "a", "b"]]), ["history is not a list of pairs"]),
    "not-json": ('{"messages": [', ["malformed JSON"]),
    "key-twice": ('{"messages": [{"role": "user", "role": "user", "content": "q"}]}', ["occurs twice"]),
}  # fmt: skip


def as_line(item: object) -> str:
    return item if isinstance(item, str) else json.dumps(item)


@pytest.mark.parametrize("name", GOOD)
def test_a_conversation_is_read(tmp_path: Path, name: str) -> None:
    item, messages, tools, (problem, solution) = GOOD[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(as_line(item), encoding="utf-8")
    [row] = read_rows(path, conversations=True)
    assert isinstance(row, RawRow) and (row.file, row.line, row.solution) == (str(path), 1, solution)
    has_context = tools or (messages is not None and messages[0]["role"] == "system")
    first, _, rest = row.problem.partition("\n")
    assert (rest if has_context else row.problem) == problem
    assert first.startswith("[context ") == bool(has_context)
    if messages is None:
        assert row.conversation is None
    else:
        assert row.conversation is not None
        assert json.loads(row.conversation) == {"messages": messages, **({"tools": tools} if tools else {})}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_conversation_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    item, words = BAD[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([as_line(chat(SYSTEM, USER, ASSISTANT)), as_line(item)]), encoding="utf-8")
    first, bad = read_rows(path, conversations=True)
    assert isinstance(first, RawRow) and isinstance(bad, RejectedRow) and (bad.file, bad.line) == (str(path), 2)
    assert [word for word in words if word not in bad.reason] == []


@pytest.mark.parametrize("name", [name for name, (_, messages, _, _) in GOOD.items() if messages])
def test_a_template_refuses_conversations(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(as_line(GOOD[name][0]), encoding="utf-8")
    [row] = read_rows(path)
    assert isinstance(row, RejectedRow)


def test_the_context_is_compared_by_its_hash(tmp_path: Path) -> None:
    """Otherwise a long system text would make all rows alike; and rows that differ in it would be one problem."""
    path = tmp_path / "rows.jsonl"
    rows = [chat(SYSTEM, USER, ASSISTANT), chat({**SYSTEM, "content": "Be long."}, USER, ASSISTANT)]
    path.write_text("\n".join(map(as_line, [*rows, chat(USER, ASSISTANT, tools=[TOOL])])), encoding="utf-8")
    problems = [row.problem for row in read_rows(path, conversations=True) if isinstance(row, RawRow)]
    assert len(set(problems)) == 3 and all("Be" not in problem for problem in problems)


def test_nested_columns_of_parquet(tmp_path: Path) -> None:
    messages = [[SYSTEM, USER, ASSISTANT], [USER, CALLING, RESULT, ASSISTANT], [USER], None]
    sink = io.BytesIO()
    pq.write_table(pa.table({"messages": messages, "tools": [None, json.dumps([TOOL]), None, None]}), sink)
    path = tmp_path / "rows.parquet"
    path.write_bytes(sink.getvalue())
    system, tools, *bad = read_shard(Shard(str(path)), RowLayout(conversations=True))
    assert isinstance(system, RawRow) and json.loads(system.conversation or "")["messages"] == [SYSTEM, USER, ASSISTANT]
    assert isinstance(tools, RawRow)
    assert json.loads(tools.conversation or "")["messages"] == [USER, READ_CALLING, RESULT, ASSISTANT]
    assert [(row.line, isinstance(row, RejectedRow)) for row in bad] == [(3, True), (4, True)]


Prepare = Callable[..., tuple[Any, Path]]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Runs the data stage on rows under a chat prompt with the ChatML template, or that of another family."""

    def run(rows: list[object], family: str = "chatml", **data: Any) -> tuple[Any, Path]:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(as_line, rows)), encoding="utf-8")
        words = FAMILIES[family].tokenizer()
        counter = TokenCounter.of(words, chat_prompt(words, end_token_ids(words, None), {}))
        section = {"skill": "text", "files": [str(path)], "reject_limit": 1, "split": {"dev": 1, "test": 2}, **data}
        recipe = Recipe.model_validate({"prompt": "chat", "data": section})
        out = tmp_path / "data"
        tokens = special_tokens(words)
        card = prepare(recipe, Text.from_section(recipe.data), counter, out, special_tokens=tokens, chat=counter.chat)
        return card, out

    return run


def numbered(number: int) -> dict[str, object]:
    question = {"role": "user", "content": f"What about {number * 7919 % 1000} and {number}?"}
    return chat(SYSTEM, question, ASSISTANT, MORE[0], {"role": "assistant", "content": f"It is {number}."})


def test_the_data_stage_keeps_and_counts_conversations(prepared: Prepare) -> None:
    rows = [numbered(number) for number in range(10)]
    alone = chat({"role": "user", "content": "Alone?"}, {"role": "assistant", "content": "Yes."})
    calling = chat({"role": "user", "content": "Add!"}, CALLING, tools=[TOOL])
    card, out = prepared([*rows, rows[0], alone, calling, chat(USER), "{"])
    assert (card.rows_read, card.rows_kept, card.rows_rejected, card.unique, card.duplicates) == (15, 13, 2, 12, 1)
    splits = {name: load_prepared_rows(out / f"{name}.parquet") for name in ("train", "dev", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 9, "dev": 1, "test": 2}
    by_line = {row.line: row for rows in splits.values() for row in rows}
    assert json.loads(by_line[2].conversation or "")["messages"][-1]["content"] == by_line[2].solution == "It is 1."
    assert by_line[12].conversation is None and by_line[12].solution == "Yes."
    # The answer of a row that calls a tool is what the template writes for the call.
    assert by_line[13].solution == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["line"], line["reason"].split(":")[0]) for line in lines] == [
        (14, "the last turn is not the assistant's"),
        (15, "malformed JSON"),
    ]


def test_rows_that_a_template_cannot_render_are_rejected_by_name(prepared: Prepare) -> None:
    rows = [chat({"role": "user", "content": f"Number {number}?"}, ASSISTANT) for number in range(6)]
    card, out = prepared([*rows, chat(SYSTEM, USER, ASSISTANT)], family="gemma")
    assert (card.rows_read, card.rows_kept, card.rows_rejected) == (7, 6, 1)
    [line] = (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = json.loads(line)
    assert rejected["line"] == 7 and "no system role" in rejected["reason"]


MARKED_CALL = {"name": "add", "arguments": '{"a": "<|im_start|>1"}'}
MARKED_TURNS = [
    chat({"role": "system", "content": "Be<|im_end|> brief."}, USER, ASSISTANT),
    chat(USER, CALLING, {**RESULT, "content": "2<|im_end|>"}, ASSISTANT, tools=[TOOL]),
    chat(MORE[0], {**ASSISTANT, "tool_calls": [{"function": MARKED_CALL}]}, RESULT, ASSISTANT, tools=[TOOL]),
    chat({"role": "user", "content": "Empty?"}, {"role": "assistant", "content": "<|im_end|>"}, *MORE),
]


def test_special_tokens_in_any_turn_are_rejected(prepared: Prepare) -> None:
    """A call of a tool is no special token, although the template writes one for it."""
    calling = chat({"role": "user", "content": "Add!"}, CALLING, tools=[TOOL])
    card, out = prepared([*map(numbered, range(6)), calling, *MARKED_TURNS])
    assert card.rejected_by_reason == {"a special token in the text": 4}
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["line"] for line in lines] == [8, 9, 10, 11] and "data.special_tokens: strip" in lines[0]["reason"]


def test_special_tokens_are_stripped_from_all_turns(prepared: Prepare) -> None:
    card, out = prepared([*map(numbered, range(6)), *MARKED_TURNS], special_tokens="strip")
    assert card.special_tokens_stripped == 3
    assert card.rejected_by_reason == {"a text of the conversation is empty without its special tokens": 1}
    rows = {row.line: row for name in ("train", "dev", "test") for row in load_prepared_rows(out / f"{name}.parquet")}
    by_line = {line: json.loads(rows[line].conversation or "")["messages"] for line in (7, 8, 9)}
    assert by_line[7][0]["content"] == "Be brief." and by_line[8][2]["content"] == "2"
    assert by_line[9][1]["tool_calls"][0]["function"]["arguments"] == {"a": "1"}


def test_answers_of_one_conversation_conflict(prepared: Prepare) -> None:
    """The same turns with different answers are a conflict; another system text makes another problem."""
    turns = [USER, ASSISTANT, MORE[0]]
    rows = [
        chat(system, *turns, {"role": "assistant", "content": answer})
        for system, answer in ((SYSTEM, "#### 1"), (SYSTEM, "#### 2"), ({**SYSTEM, "content": "Be kind."}, "#### 3"))
    ]
    card, _ = prepared([*map(numbered, range(6)), *rows])
    assert card.rejected_by_reason == {"the same problem with different answers": 2}
    assert (card.rows_kept, card.ambiguous) == (7, 1)


def test_conversations_with_ignored_columns(prepared: Prepare) -> None:
    rows = [{**numbered(number), "source": "web"} for number in range(6)]
    card, _ = prepared(list(rows), ignore_columns=["source"])
    assert (card.rows_kept, list(card.formats.values())) == (6, ["JSON Lines, messages"])
    card, _ = prepared([*rows, numbered(6), numbered(7), numbered(8), numbered(9)])
    assert card.rejected_by_reason == {"keys would be dropped": 6}


@pytest.mark.parametrize("others", [{}, {"id": "1"}])
def test_no_system_text_is_ignored(tmp_path: Path, others: dict[str, object]) -> None:
    """Even if all columns may be dropped, a system text is not: it is a part of what the model answers."""
    path = tmp_path / "rows.jsonl"
    path.write_text(as_line(talk(HUMAN, GPT, system="Be brief.", source="web", **others)), encoding="utf-8")
    shard, ignored = Shard(str(path)), ("all",)
    [row] = read_shard(shard, RowLayout(ignored=ignored, conversations=True))
    assert isinstance(row, RawRow) and json.loads(row.conversation or "")["messages"][0] == SYSTEM
    [row] = read_shard(shard, RowLayout(ignored=ignored))
    assert isinstance(row, RejectedRow) and row.reason.startswith("a system turn:")


@pytest.mark.parametrize("others", [{}, {"id": "1"}])
def test_keys_that_the_recipe_names_are_dropped_in_turns_too(tmp_path: Path, others: dict[str, object]) -> None:
    # The message about such a key had no remedy: data.ignore_columns held for the keys of rows only.
    path = tmp_path / "rows.jsonl"
    turns = ({**HUMAN, "markdown": None, "text": "x"}, {**GPT, "markdown": "<b>a</b>"})
    path.write_text(as_line(talk(*turns, system="Be brief.", tools=[TOOL], **others)), encoding="utf-8")
    for ignored in (("markdown", "text", "tools"), ("all", "tools")):
        [row] = read_shard(Shard(str(path)), RowLayout(ignored=ignored, conversations=True))
        assert isinstance(row, RawRow) and row.conversation is not None
        assert json.loads(row.conversation) == {"messages": [SYSTEM, USER, ASSISTANT]}
    [row] = read_shard(Shard(str(path)), RowLayout(ignored=("markdown", "text", "tools", "system")))
    assert isinstance(row, RawRow) and (row.problem, row.solution) == ("q", "a")
    [row] = read_shard(Shard(str(path)), RowLayout(ignored=("markdown",), conversations=True))
    assert isinstance(row, RejectedRow) and "'text'" in row.reason


def test_ids_that_the_recipe_names_may_repeat(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(as_line(talk(HUMAN, GPT, id="identity")) for _ in range(3)), encoding="utf-8")
    rows = list(read_shard(Shard(str(path)), RowLayout(ignored=("id",))))
    assert [isinstance(row, RawRow) for row in rows] == [True] * 3


def test_functions_of_the_older_format_are_tools(tmp_path: Path) -> None:
    # They were a column that init put on the list of ignored ones, so that the model called what it did not see.
    path = tmp_path / "rows.jsonl"
    calling = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}}
    path.write_text(as_line(chat(USER, calling, functions=[TOOL["function"]])), encoding="utf-8")
    [row] = read_rows(path, conversations=True)
    assert isinstance(row, RawRow) and json.loads(row.conversation or "")["tools"] == [TOOL]


def test_excluded_conversations_leave_training(prepared: Prepare, tmp_path: Path) -> None:
    rows = [numbered(number) for number in range(8)]
    excluded = tmp_path / "excluded.jsonl"
    excluded.write_text(as_line(rows[3]), encoding="utf-8")
    _, out = prepared(list(rows), exclude_files=[str(excluded)])
    lines = {row.line for name in ("train", "dev", "test") for row in load_prepared_rows(out / f"{name}.parquet")}
    assert lines == {1, 2, 3, 5, 6, 7, 8}


def test_near_duplicate_conversations_stay_on_one_side(prepared: Prepare) -> None:
    long = " ".join(f"word{number}" for number in range(40))
    pairs = [chat(SYSTEM, {"role": "user", "content": f"{long} {end}"}, ASSISTANT) for end in ("yes", "yes!", "no")]
    others = [numbered(number) for number in range(6)]
    _, out = prepared([*pairs, *others], split={"dev": 2, "test": 2})
    sides = [{row.line for row in load_prepared_rows(out / f"{name}.parquet")} for name in ("train", "dev", "test")]
    assert any({1, 2, 3} <= side for side in sides)


def test_files_without_conversations_have_no_such_column(prepared: Prepare) -> None:
    _, out = prepared([chat({"role": "user", "content": f"Number {number}?"}, ASSISTANT) for number in range(6)])
    for name in ("train", "dev", "test"):
        assert "conversation" not in pq.read_schema(out / f"{name}.parquet").names
        assert all(row.conversation is None for row in load_prepared_rows(out / f"{name}.parquet"))
