"""MindRecord files: rows are read back, bytes equal MindSpore's, and damaged files raise an error."""

import json
import random
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.errors import DataError, RecipeError, RunError
from keeptune.mindspore import record
from keeptune.mindspore.record_reader import read_rows

FIELDS = ("input_ids", "labels")
HEADER_BYTES, PAGE_BYTES = 8_000, 300
"""Small sizes, so that a few rows fill several pages."""


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "HEADER_BYTES", HEADER_BYTES)
    monkeypatch.setattr(record, "PAGE_BYTES", PAGE_BYTES)


def rows(count: int, fields: int = 2, length: int = 7, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    draw = np.random.default_rng(seed)
    spread = 1 << draw.integers(0, 31, (count, fields, length))
    return (draw.integers(-1, 2, spread.shape) * spread).astype(np.int32)


def as_lists(path: Path, fields: tuple[str, ...] = FIELDS) -> list[list[list[int]]]:
    return [[values.tolist() for values in row] for row in read_rows(path, fields)]


def error_of(path: Path, fields: tuple[str, ...] = FIELDS) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows(path, fields))
    return str(caught.value)


@pytest.mark.usefixtures("small_pages")
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 9), st.integers(1, 12))
def test_written_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, count: int, shards: int, length: int, batch: int
) -> None:
    folder, written = tmp_path_factory.mktemp("record"), rows(count + shards, length=length)
    batches = [written[start : start + batch] for start in range(0, len(written), batch)]
    paths = record.write(folder / "x", FIELDS, batches, "qa", shards)
    assert len(paths) == shards
    for path in paths:
        assert as_lists(path) == written.tolist()
        assert as_lists(path, ("labels",)) == written[:, 1:].tolist()


@pytest.mark.usefixtures("small_pages")
def test_index_has_the_offsets_of_each_row(tmp_path: Path) -> None:
    [path] = record.write(tmp_path / "x", FIELDS, [rows(60)], "qa")
    content = path.read_bytes()
    database = sqlite3.connect(record.index_path(path))
    entries = database.execute("SELECT * FROM INDEXES ORDER BY ROW_ID").fetchall()
    database.close()
    assert [row[0] for row in entries] == list(range(60))
    assert len({row[1] for row in entries}) > 2
    assert len({row[5] for row in entries}) > 2
    for _, raw_page, raw_start, raw_end, _, blob_page, start, end in entries:
        page = HEADER_BYTES + raw_page * PAGE_BYTES
        assert content[page + raw_start : page + raw_end] == b"\5\0\0\0\0\0\0\0\x81\xa2id\0"
        position = HEADER_BYTES + blob_page * PAGE_BYTES + start
        assert int.from_bytes(content[position : position + 8], "little") == end - start - 8


def test_bytes_equal_mindspore_s(tmp_path: Path) -> None:
    """The expected bytes were written by the FileWriter of mindspore 2.9.0."""
    row = np.array([[[-100, 9], [1, 300]]], np.int32)
    [path] = record.write(tmp_path / "x.mindrecord", ("labels", "input_ids"), [row], "qa")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert content[8 : 8 + length].decode() == (
        '{"header_size":16777216,"index_fields":null,"page":[{"end_row_id":1,"page_id":0,"page_size":39,"page_type":'
        '"BLOB_DATA","page_type_id":0,"row_group_ids":[{"id":0,"offset":0}],"shard_id":0,"start_row_id":0},'
        '{"end_row_id":0,"page_id":1,"page_size":13,"page_type":"RAW_DATA","page_type_id":0,"row_group_ids":'
        '[{"id":0,"offset":0}],"shard_id":0,"start_row_id":0}],"page_size":33554432,"compression_size":1,"schema":'
        '[{"blob_fields":["input_ids","labels"],"desc":"qa","schema":{"input_ids":{"shape":[-1],"type":"int32"},'
        '"labels":{"shape":[-1],"type":"int32"}}}],"shard_addresses":["x.mindrecord"],"shard_id":0,"statistics":null,'
        '"version":"3.0"}'
    )
    assert content[2**24 : 2**24 + 39].hex() == (
        "1f0000000000000000000000000000080000000210012c01000000000000000700000002009c09"
    )
    assert content[2**24 + 2**25 :].hex() == "050000000000000081a2696400"


@pytest.mark.usefixtures("small_pages")
def test_invalid_data_sets_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a row takes 1,\d+ bytes"):
        record.write(tmp_path / "long", FIELDS, [rows(1, length=300)], "qa")
    with pytest.raises(DataError, match="1 rows for 2 shards"):
        record.write(tmp_path / "few", FIELDS, [rows(1)], "qa", 2)
    with pytest.raises(DataError, match="too many pages"):
        record.write(tmp_path / "many", FIELDS, [rows(400)], "qa")
    with pytest.raises(RecipeError, match="got 1,001"):
        record.write(tmp_path / "shards", FIELDS, [rows(1)], "qa", 1001)
    (tmp_path / "there").touch()
    with pytest.raises(RunError, match="cannot be written"):
        record.write(tmp_path / "there", FIELDS, [rows(1)], "qa")


def edited(path: Path, edit: Callable[[Any], Any]) -> None:
    """Changes the file's header."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    tree = json.loads(content[8 : 8 + length])
    edit(tree)
    text = json.dumps(tree).encode()
    path.write_bytes((len(text).to_bytes(8, "little") + text).ljust(HEADER_BYTES, b"\0") + content[HEADER_BYTES:])


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda tree: tree.update(version="2.0"), "got 2.0"),
        (lambda tree: tree.pop("schema"), "(schema: Field required)"),
        (lambda tree: tree.update(page_size=-1), "(page_size: Input should be greater than or equal to 8)"),
        (lambda tree: tree.update(header_size=9), "longer than header_size"),
        (lambda tree: tree["page"][0].update(page_id=10**9), "page 1000000000 ends after"),
        (lambda tree: tree["page"][2].update(page_id=0), "page 0 appears twice"),
        (lambda tree: tree["page"][0].update(page_size=301), "page 0 ends after"),
        (lambda tree: tree["page"][0].update(page_size=72), "longer than its page"),
        (lambda tree: tree["page"][-1].update(end_row_id=100), "is too short for its rows"),
        (lambda tree: tree["page"][-1].update(end_row_id=13), "ends before its last row"),
        (lambda tree: tree["page"][-1].update(end_row_id=11), "continues after its last row"),
        (lambda tree: tree["page"][0].update(start_row_id=1), "not consecutive"),
        (lambda tree: tree["schema"][0]["blob_fields"].append("more"), "longer than its row"),
        (lambda tree: tree["schema"][0]["blob_fields"].pop(), "no field 'labels' of int32 arrays"),
        (lambda tree: tree["schema"][0]["schema"]["labels"].update(type="int64"), "labels (int64)"),
        (lambda tree: tree["shard_addresses"].append("y"), "cannot be read"),
        (lambda tree: tree["shard_addresses"].append("../x"), "not a file name"),
        (lambda tree: tree["shard_addresses"].append("\0"), "embedded null"),
        (lambda tree: tree["shard_addresses"].append("x"), "not shard 1"),
    ],
)
def test_damaged_file_names_the_reason(tmp_path: Path, edit: Callable[[Any], Any], reason: str) -> None:
    [path] = record.write(tmp_path / "x", FIELDS, [rows(12)], "qa")
    edited(path, edit)
    assert str(path.parent) in error_of(path)
    assert reason in error_of(path)


def test_files_that_are_not_mindrecord(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert re.search("cannot be read .*No such file", error_of(path))
    for content in (b"", b"\1", b"\xff" * 100):
        path.write_bytes(content)
        assert "(no header)" in error_of(path)
    path.write_bytes(b"\2\0\0\0\0\0\0\0{]")
    assert "(header: Invalid JSON" in error_of(path)


@pytest.mark.usefixtures("small_pages")
def test_shard_of_another_data_set_is_rejected(tmp_path: Path) -> None:
    paths = record.write(tmp_path / "x", FIELDS, [rows(12)], "qa", 2)
    other = record.write(tmp_path / "y", FIELDS, [rows(12)], "qa", 2)
    other[1].replace(paths[1])
    assert f"{paths[1]}: not shard 1" in error_of(paths[0])
    assert str(paths[0]) in error_of(paths[0])
    paths[1].unlink()
    assert f"{paths[1]}: cannot be read" in error_of(paths[0])


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("seed", "times"), [(0, 500), pytest.param(1, 10_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_damaged_files_raise_or_yield_complete_rows(tmp_path: Path, seed: int, times: int) -> None:
    """Half of the damage is in the header, which holds the lengths."""
    [path] = record.write(tmp_path / "x", FIELDS, [rows(12)], "qa")
    whole, draw = path.read_bytes(), random.Random(seed)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    errors = 0
    for _ in range(times):
        content = bytearray(whole)
        begin, end = (0, header_end) if draw.random() < 0.5 else (HEADER_BYTES, len(whole))
        for _ in range(draw.randint(1, 3)):
            byte = draw.randrange(begin, end)
            flipped = content[byte] ^ 1 << draw.randrange(8)
            content[byte] = draw.choice([draw.randrange(256), flipped, draw.choice(b"019")])
        path.write_bytes(content[: draw.choice([len(content), len(content), draw.randrange(len(content))])])
        try:
            rows_read = list(read_rows(path, FIELDS))
        except DataError as error:
            assert str(tmp_path) in str(error)
            errors += 1
            continue
        assert len(rows_read) == 12
        assert all(len(row) == 2 and values.dtype == np.int32 for row in rows_read for values in row)
    assert errors > times // 4
