"""Every line of every file is a row or a rejected row with its line number; no content crashes a reader."""

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cpu_time import bounded_work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.data.json_rows import strip_prompt_wrapper
from keeptune.data.reader import RawRow, RejectedRow, read_rows
from keeptune.errors import DataError

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the public rows are not available")

GOOD = {"problem": "计算 1.00 + 2.00 等于多少？", "solution": "1.00 + 2.00 = 3.00"}
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def conversation(conversation_id: object = "1", prompt: object = "计算", reply: object = "1") -> dict[str, Any]:
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": reply}]
    return {"id": conversation_id, "conversations": turns}


def read(path: Path, content: bytes | str) -> list[RawRow | RejectedRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(path))


def one(path: Path, content: bytes | str) -> RawRow | RejectedRow:
    (row,) = read(path, content)
    return row


def test_json_lines_and_json_list_give_the_same_rows(tmp_path: Path) -> None:
    rows = [{"problem": f"p{number}", "solution": f"s\n{number}"} for number in range(5)]
    path = tmp_path / "rows"
    expected = [RawRow(str(path), number, f"p{number - 1}", f"s\n{number - 1}") for number in range(1, 6)]
    lines = [json.dumps(row) for row in rows]
    for content in (
        "\n".join(lines),
        "\n".join(lines) + "\n",
        "\r\n".join(lines),
        "\ufeff" + "\n".join(lines),
        json.dumps(rows),
        json.dumps(rows, indent=2),
        "\ufeff \n" + json.dumps(rows, indent=2) + "\n",
    ):
        assert read(path, content) == expected


def test_line_numbers_include_blank_lines(tmp_path: Path) -> None:
    rows = read(tmp_path / "rows", f"\n{json.dumps(GOOD)}\n\n  \n{json.dumps(GOOD)}\n\n")
    assert [row.line for row in rows] == [2, 5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"problem": "a", "solution": "b"', "malformed JSON"),
        ('{"problem": "a", "solution": "b"} {}', "malformed JSON"),
        ("{'problem': 'a', 'solution': 'b'}", "malformed JSON"),
        ("[" * 100_000, "malformed JSON"),
        ('"a"', "not an object"),
        ("null", "not an object"),
        ('["a", "b"]', "not an object"),
        ("9" * 10_000, "not an object"),
        ("{}", "keys fit no row format"),
        ('{"problem": "a"}', "keys fit no row format"),
        ('{"Problem": "a", "solution": "b"}', "keys fit no row format"),
        ('{"problem": "a", "solution": "b", "id": "c"}', "keys would be dropped"),
        ('{"problem": "a", "problem": "c", "solution": "b"}', "a key occurs twice"),
        ('{"problem": 1, "solution": "b"}', "problem is not a text"),
        ('{"problem": "a", "solution": null}', "solution is not a text"),
        ('{"problem": "a", "solution": ["b"]}', "solution is not a text"),
        ('{"problem": ' + "9" * 10_000 + ', "solution": "b"}', "problem is not a text"),
        ('{"problem": "a", "solution": NaN}', "solution is not a text"),
        ('{"problem": "", "solution": "b"}', "problem is empty"),
        ('{"problem": "a", "solution": " \\n"}', "solution is empty"),
        (
            '{"problem": "a", "solution": "\\ud800"}',
            "solution holds half a character (a lone surrogate, or bytes that are not UTF-8)",
        ),
        (b'{"problem": "a\xff", "solution": "b"}', "not UTF-8"),
        (json.dumps(GOOD, ensure_ascii=False).encode("gb18030"), "not UTF-8"),
        (json.dumps(conversation(conversation_id=["1"])), "id is not a text"),
        (json.dumps(conversation(prompt=None)), "problem is not a text"),
        (json.dumps(conversation(prompt="### Instruction:\n\n\n### Response:")), "problem is empty"),
        (json.dumps(conversation(reply="")), "solution is empty"),
        (json.dumps({"id": "1", "conversations": []}), "conversations is not a list of turns"),
        (json.dumps({"id": "1", "conversations": "human"}), "conversations is not a list of turns"),
        (json.dumps({"id": "1", "conversations": [None, {}]}), "a turn is not an object"),
        (
            json.dumps({"id": "1", "conversations": conversation()["conversations"] * 2}),
            "more than one user turn and one assistant turn",
        ),
    ],
)
def test_a_malformed_line_affects_no_other_line(tmp_path: Path, line: str | bytes, reason: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    good = json.dumps(GOOD).encode()
    before, bad, after = read(tmp_path / "rows", good + b"\n" + raw + b"\n" + good)
    assert isinstance(before, RawRow)
    assert isinstance(after, RawRow)
    assert isinstance(bad, RejectedRow)
    assert (bad.line, bad.reason.partition(":")[0]) == (2, reason)
    text = raw.decode(errors="replace")
    assert (bad.text, bad.length) == (text[:2000], len(text))


def test_malformed_list_items_affect_no_other_item(tmp_path: Path) -> None:
    good = json.dumps(GOOD).encode()
    corrupted = good.replace(b"+", b"\xff")
    rows = read(tmp_path / "rows", b"[" + b",\n".join([good, b'{"problem": 1}', corrupted, b"7", good]) + b"]")
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert [isinstance(row, RawRow) for row in rows] == [True, False, False, False, True]
    assert isinstance(rows[2], RejectedRow)
    assert "not UTF-8" in rows[2].reason
    assert "\ufffd" in rows[2].text


def test_conversation_ids_are_unique_within_a_file(tmp_path: Path) -> None:
    items = [conversation("1"), conversation("2"), conversation("1")]
    for content in (json.dumps(items), "\n".join(map(json.dumps, items))):
        rows = read(tmp_path / "rows", content)
        assert [row.reason.partition(":")[0] if isinstance(row, RejectedRow) else None for row in rows] == [
            None,
            None,
            "id occurs twice",
        ]


def test_a_long_line_is_rejected_with_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    good = json.dumps(GOOD).encode() + b"\n"
    long = b'{"problem": "a", "solution": "' + b"x" * 50_000_000 + b'"}'
    path.write_bytes(good + long + b"\n" + good)
    tracemalloc.start()
    with bounded_work():
        before, bad, after = read_rows(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(before, RawRow)
    assert isinstance(after, RawRow)
    assert isinstance(bad, RejectedRow)
    assert (bad.line, bad.reason, bad.text) == (2, "longer than 1 MB", long[:2000].decode())
    assert bad.length == len(long) + 1
    assert peak_bytes < 10_000_000


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.jsonl.gz"])
def test_a_long_first_line_takes_bounded_memory(tmp_path: Path, name: str) -> None:
    path, long = tmp_path / name, b'{"problem": "a", "solution": "' + b"x" * 50_000_000 + b'"}\n'
    content = b"problem,solution\n" + long + b"a,b\n" if ".csv" in name else long + json.dumps(GOOD).encode() + b"\n"
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    del content
    tracemalloc.start()
    with bounded_work():
        bad, after = read_rows(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(after, RawRow)
    assert isinstance(bad, RejectedRow)
    assert bad.reason == "longer than 1 MB"
    assert peak_bytes < 10_000_000


def test_a_line_of_exactly_1_mb_is_read(tmp_path: Path) -> None:
    empty = json.dumps({"problem": "a", "solution": "b"}).encode()
    full = empty.replace(b'"b"', b'"' + b"b" * (1_000_000 - len(empty) + 1) + b'"')
    assert len(full) == 1_000_000
    assert isinstance(one(tmp_path / "rows", full), RawRow)
    assert isinstance(one(tmp_path / "rows", full + b"\n"), RawRow)
    assert isinstance(one(tmp_path / "rows", full.replace(b"b", b"bb", 1)), RejectedRow)


def test_a_long_item_of_a_list_is_rejected(tmp_path: Path) -> None:
    row = one(tmp_path / "rows", json.dumps([{"problem": "a", "solution": "b" * 1_000_000}]))
    assert isinstance(row, RejectedRow)
    assert row.reason == "longer than 1 MB"


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff", "[]", "[ ]\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / "rows", content)


@pytest.mark.parametrize(
    "content",
    ["[", "[1", "[1,", "[1 2]", "[1]]", "[,1]", "[1,,2]", "[1,]", '[{"problem": "a"', "[" * 100_000, '["a\n"]'],
)
def test_a_malformed_list_is_an_error_that_names_the_item(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows"
    with pytest.raises(DataError, match=r"item [0-9]+ of the JSON list"):
        read(path, content)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_rows(tmp_path / "absent"))
    with pytest.raises(DataError, match="Is a directory"):
        list(read_rows(tmp_path))


@one_folder
@given(st.data())
def test_every_line_of_a_corrupted_file_is_accounted_for(tmp_path: Path, data: st.DataObject) -> None:
    rows = [GOOD, conversation("1", "甲"), conversation("2", "a\u2028b"), {"problem": "p\n", "solution": "s" * 50}]
    content = bytearray("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    for _ in range(data.draw(st.integers(0, 8))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not content:
            return
    path = tmp_path / "rows"
    stripped = bytes(content).removeprefix(b"\xef\xbb\xbf").strip()
    if not stripped or stripped.startswith(b"["):
        return
    read_back = read(path, bytes(content))
    lines = [number for number, line in enumerate(bytes(content).split(b"\n"), start=1) if line.strip()]
    assert [row.line for row in read_back] == lines


@one_folder
@given(st.data())
def test_a_corrupted_list_is_read_whole_or_is_an_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps([GOOD, conversation("1"), GOOD], ensure_ascii=False, indent=1).encode())
    position = data.draw(st.integers(1, len(content) - 1))
    content[position : position + 1] = data.draw(st.binary(max_size=2))
    try:
        numbers = [row.line for row in read(tmp_path / "rows", bytes(content))]
    except DataError:
        return
    assert numbers == list(range(1, len(numbers) + 1))
    whole = json.loads(bytes(content).decode(errors="surrogateescape"))
    assert len(numbers) == len(whole)


@given(st.text(min_size=1))
def test_any_text_is_preserved(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    row = one(tmp_path_factory.mktemp("any") / "rows", json.dumps({"problem": text, "solution": "s"}))
    if isinstance(row, RawRow):
        assert row.problem == text
    else:
        assert not text.strip()


@pytest.mark.parametrize(
    "prompt",
    [
        "计算 1",
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n计算 1\n\n### Response:",
        "Write a response that appropriately completes the request.\n\n## Instruction:\n计算 1\n\n## Response: ",
        "Below is an instruction that describes a task.\n  ### Instruction:\n计算 1",
        "计算 1\n\n### Response:",
        "Instruction: 计算 1\nResponse:",
        "  计算 1\n",
    ],
)
def test_prompt_wrappers_are_removed(prompt: str) -> None:
    assert strip_prompt_wrapper(prompt) == "计算 1"


def test_text_that_resembles_a_wrapper_is_preserved() -> None:
    for problem in (
        "Find #1.\nResponse: none given",
        "a ### b",
        "x\n\ny",
        "A passage.\n\nInstruction: sum it up",
        "用中文回答。\n### Instruction:\n计算 1",
        "Instruction: sum up",
        "Fill in.\nResponse:",
    ):
        assert strip_prompt_wrapper(problem) == problem


@pytest.mark.parametrize("filler", ["\n", " ", "#", "\n#", "Instruction:"])
def test_removing_wrappers_is_fast_for_adversarial_input(filler: str) -> None:
    with bounded_work():
        strip_prompt_wrapper("x" + filler * 300_000 + "x")
        strip_prompt_wrapper(filler * 300_000)


@needs_shared
def test_real_files() -> None:
    raw = list(read_rows(SHARED / "contest" / "raw_sample.jsonl"))
    assert len(raw) == 294
    assert all(isinstance(row, RawRow) for row in raw)
    conversations = [row for row in read_rows(SHARED / "contest" / "conversations.json") if isinstance(row, RawRow)]
    assert len(conversations) == 7500
    assert conversations[0].problem == "计算 -3732.46 / -8153.87 等于多少？"
    assert not any("###" in row.problem for row in conversations)
