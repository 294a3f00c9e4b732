"""MindRecord: keeptune and mindspore write identical files, and each reads the other's."""

import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.mindspore import record
from keeptune.mindspore.record_reader import read_rows

# Not plain `mindspore`: if it is not installed, that name would find the test folder.
pytest.importorskip("mindspore.mindrecord", reason="mindspore is not installed; `make test-mindspore` installs it")
dataset, mindrecord = (import_module(f"mindspore.{name}") for name in ("dataset", "mindrecord"))

FIELDS = ("input_ids", "labels")
Rows = np.ndarray[Any, np.dtype[np.int32]]


def rows(count: int, fields: int = 2, length: int = 257) -> Rows:
    """Token ids and labels that take one, two and four bytes."""
    draw = np.random.default_rng(0)
    return draw.choice(np.array([-100, 7, 300, 40_000, 128_255, -(2**31)], np.int32), (count, fields, length))


def write_with_mindspore(
    path: Path, batches: list[Rows], fields: tuple[str, ...] = FIELDS, shards: int = 1
) -> list[Path]:
    """Writes the rows with mindspore's FileWriter."""
    writer = mindrecord.FileWriter(file_name=str(path), shard_num=shards)
    writer.add_schema({name: {"type": "int32", "shape": [-1]} for name in fields}, "qa")
    for batch in batches:
        writer.write_raw_data([dict(zip(fields, row, strict=True)) for row in batch])
    writer.commit()
    return record.shard_paths(path, shards)


def dump(path: Path) -> list[str]:
    database = sqlite3.connect(record.index_path(path))
    lines = list(database.iterdump())
    database.close()
    return lines


def loaded(paths: list[Path], fields: tuple[str, ...] = FIELDS, **options: Any) -> list[list[list[int]]]:
    """The rows that MindDataset reads, in file order."""
    files: Any = [str(path) for path in paths] if len(paths) > 1 else str(paths[0])
    data = dataset.MindDataset(files, columns_list=list(fields), shuffle=False, **options)
    return [[values.tolist() for values in row] for row in data.create_tuple_iterator(num_epochs=1, output_numpy=True)]


@pytest.mark.parametrize(
    ("fields", "count", "length"),
    [(FIELDS, 40, 257), (("input_ids",), 40, 257), (("labels", "input_ids", "a"), 40, 5), (FIELDS, 2_500, 5_000)],
    ids=["two fields", "one field", "three fields", "several pages"],
)
def test_files_are_identical(tmp_path: Path, fields: tuple[str, ...], count: int, length: int) -> None:
    written = rows(count, len(fields), length)
    (tmp_path / "keeptune").mkdir()
    batches = [written[start : start + 500] for start in range(0, count, 500)]
    [expected] = write_with_mindspore(tmp_path / "x.mindrecord", batches, fields)
    [actual] = record.write(tmp_path / "keeptune" / "x.mindrecord", fields, batches, "qa")
    assert actual.read_bytes() == expected.read_bytes()
    assert dump(actual) == dump(expected)
    assert np.array_equal(np.array(list(read_rows(expected, fields))), written)


@pytest.mark.parametrize("shards", [1, 3, 12])
def test_mindspore_reads_keeptune_s_files(tmp_path: Path, shards: int) -> None:
    written = rows(100)
    paths = record.write(tmp_path / "x.mindrecord", FIELDS, [written[:60], written[60:]], "qa", shards)
    assert sorted(loaded(paths)) == sorted(written.tolist())
    if shards == 1:
        assert loaded(paths) == written.tolist()
    distributed = [row for part in range(4) for row in loaded(paths, num_shards=4, shard_id=part)]
    assert sorted(distributed) == sorted(written.tolist())


@pytest.mark.parametrize("shards", [2, 12])
def test_keeptune_reads_mindspore_s_shards(tmp_path: Path, shards: int) -> None:
    written = rows(100)
    for path in write_with_mindspore(tmp_path / "x.mindrecord", [written[:60], written[60:]], shards=shards):
        rows_read = [[values.tolist() for values in row] for row in read_rows(path, FIELDS)]
        assert sorted(rows_read) == sorted(written.tolist())


def test_mindspore_appends_to_keeptune_s_file(tmp_path: Path) -> None:
    written = rows(100)
    [path] = record.write(tmp_path / "x.mindrecord", FIELDS, [written[:60]], "qa")
    writer = mindrecord.FileWriter.open_for_append(str(path))
    writer.write_raw_data([dict(zip(FIELDS, row, strict=True)) for row in written[60:]])
    writer.commit()
    assert np.array_equal(np.array(list(read_rows(path, FIELDS))), written)
    assert loaded([path]) == written.tolist()


def test_fields_of_other_types_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.mindrecord"
    writer = mindrecord.FileWriter(file_name=str(path), shard_num=1)
    schema = {"input_ids": {"type": "int32", "shape": [-1]}, "image": {"type": "bytes"}, "label": {"type": "int64"}}
    writer.add_schema({**schema, "weights": {"type": "float32", "shape": [-1]}}, "other")
    tokens = rows(5, 1, 9)[:, 0]
    writer.write_raw_data(
        [{"input_ids": row, "image": b"\xff\xd8", "label": 3, "weights": np.ones(2, np.float32)} for row in tokens]
    )
    writer.commit()
    assert np.array_equal(np.array(list(read_rows(path, ("input_ids",))))[:, 0], tokens)
