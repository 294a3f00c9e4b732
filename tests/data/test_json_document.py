"""JSON lists and objects that are one document: items are found as by a whole decode, within bounded memory."""

import gzip
import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from cpu_time import bounded_work
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data import json_document
from keeptune.data.columns import RowLayout
from keeptune.data.json_document import DECODER, ItemError, TooLongValue, ValueReader, list_items, skip_value
from keeptune.data.reader import RawRow, RejectedRow, read_rows
from keeptune.data.sample import sample_rows
from keeptune.errors import DataError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
ROW = {"problem": "1 + 1 = ?", "solution": "2"}


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window so small that values longer than it are decoded fast. It stays longer than a row may be."""
    monkeypatch.setattr(json_document, "WINDOW_CHARACTERS", 1_100_000)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans(), st.sampled_from([1, 3, 10, 50, 1000]))
def test_items_are_those_of_a_whole_decode(items: list[Any], indent: int | None, is_ascii: bool, window: int) -> None:
    """Also where the window cuts a number, of which the first digits would be a number, too."""
    text = json.dumps(items, indent=indent, ensure_ascii=is_ascii)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_document, "WINDOW_CHARACTERS", window)
        found = list(list_items(ValueReader(text), 0))
        with pytest.raises(ItemError):
            list(list_items(ValueReader(text[:-1]), 0))
    assert [json.loads(text[item.start : item.end]) for item in found] == items
    for item in found:
        assert skip_value(text, item.start) == item.end
        if isinstance(item.value, TooLongValue):
            assert item.end - item.start > window
        else:
            assert item.value == DECODER.decode(text[item.start : item.end])


def with_numbers(count: int) -> str:
    """A list of numbers, which decoded needs 50 times its memory."""
    return f"[{'1,' * count}1]"


@pytest.mark.usefixtures("small_window")
def test_long_items_are_rejected_and_the_others_read(tmp_path: Path) -> None:
    """A list of 60 MB with one long row of numbers needed 4 GB and minutes."""
    path = tmp_path / "rows.json"
    row = json.dumps(ROW)
    path.write_text(f'[{row}, {{"problem": {with_numbers(600_000)}, "solution": "2"}}, {row}]', encoding="utf-8")
    first, long, last = read_rows(path)
    assert isinstance(first, RawRow) and isinstance(last, RawRow) and last.line == 3
    assert isinstance(long, RejectedRow) and long.reason == "longer than 1 MB"
    assert sample_rows(str(path), RowLayout()).rows == [ROW, ROW]


@pytest.mark.usefixtures("small_window")
def test_long_values_beside_the_list_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    metadata = f'"numbers": {with_numbers(600_000)}, "text": "{"[" * 1_200_000}", "depth": {{"a": [{{}}]}}'
    path.write_text(f'{{{metadata}, "data": [{json.dumps(ROW)}]}}', encoding="utf-8")
    [row] = read_rows(path)
    assert isinstance(row, RawRow)


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_an_object_in_one_long_line_is_read(tmp_path: Path, name: str, end: str) -> None:
    """It was rejected as one row that is too long if its first MB ended within a text, as nearly every MB does."""
    rows = [{"problem": "x" * 600_000, "solution": str(number)} for number in range(4)]
    content = json.dumps({"version": "1", "data": rows}).encode() + end.encode()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    assert [row.line for row in read_rows(tmp_path / name) if isinstance(row, RawRow)] == [1, 2, 3, 4]


def test_lines_after_a_long_first_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    long = json.dumps({"problem": "x" * 2_000_000, "solution": "2"})
    path.write_text(f"{long}\n{json.dumps(ROW)}\n", encoding="utf-8")
    first, second = read_rows(path)
    assert isinstance(first, RejectedRow) and isinstance(second, RawRow) and second.line == 2


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in /proc")
@pytest.mark.usefixtures("small_window")
def test_memory_is_bounded_by_the_document(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f'[{{"problem": {with_numbers(8_000_000)}}}, {json.dumps(ROW)}]', encoding="utf-8")
    in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (400 << 20), before[1]))  # decoded: 0.9 GB
    try:
        assert len(list(read_rows(path))) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("start", ["[", '{"meta": 1, "data": ['])
def test_a_document_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """A list of 3 MB in gzip unpacked to 3 GB and ended in a MemoryError."""
    monkeypatch.setattr(json_document, "MAX_DOCUMENT_BYTES", 5_000_000)
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(f"{start}\n".encode() + b" " * 6_000_000))
    with pytest.raises(DataError, match="one object per line"):
        list(read_rows(path))
    path.write_bytes(gzip.compress(json.dumps([ROW]).encode() + b" " * 4_000_000))
    assert len(list(read_rows(path))) == 1


LONG = ["[" + part * 300_000 for part in ("1,", "{},", "[{}],")] + ['["' + '\\"' * 300_000, "1" * 300_000]


@pytest.mark.parametrize("text", LONG, ids=["numbers", "objects", "lists", "quotes", "digits"])
def test_values_are_skipped_in_linear_time(text: str) -> None:
    with bounded_work():
        assert skip_value(text, 0) == len(text)
