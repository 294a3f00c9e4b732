"""MindRecord: keeptune's files are mindspore's byte for byte, and each reads the other's."""

import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keeptune.mindspore import record
from keeptune.mindspore.record_reader import read

# Not `mindspore` alone: where it is not installed, that would be the folder of tests with this name.
pytest.importorskip("mindspore.mindrecord", reason="mindspore is not installed; `make test-mindspore` installs it")
dataset, mindrecord = (import_module(f"mindspore.{name}") for name in ("dataset", "mindrecord"))

FIELDS = ("input_ids", "labels")
Rows = np.ndarray[Any, np.dtype[np.int32]]


def rows(count: int, fields: int = 2, length: int = 257) -> Rows:
    """Token ids and labels, of one, two and four bytes."""
    draw = np.random.default_rng(0)
    return draw.choice(np.array([-100, 7, 300, 40_000, 128_255, -(2**31)], np.int32), (count, fields, length))


def theirs(path: Path, batches: list[Rows], fields: tuple[str, ...] = FIELDS, shards: int = 1) -> list[Path]:
    """What mindspore's own writer makes of the rows."""
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
    """The rows as MindDataset gives them, in the files' order."""
    files: Any = [str(path) for path in paths] if len(paths) > 1 else str(paths[0])
    data = dataset.MindDataset(files, columns_list=list(fields), shuffle=False, **options)
    return [[values.tolist() for values in row] for row in data.create_tuple_iterator(num_epochs=1, output_numpy=True)]


@pytest.mark.parametrize(
    ("fields", "count", "length"),
    [(FIELDS, 40, 257), (("input_ids",), 40, 257), (("labels", "input_ids", "a"), 40, 5), (FIELDS, 2_500, 5_000)],
    ids=["two fields", "one field", "three fields", "several pages"],
)
def test_files_are_the_same_byte_for_byte(tmp_path: Path, fields: tuple[str, ...], count: int, length: int) -> None:
    written = rows(count, len(fields), length)
    (tmp_path / "own").mkdir()
    batches = [written[start : start + 500] for start in range(0, count, 500)]
    [their] = theirs(tmp_path / "x.mindrecord", batches, fields)
    [own] = record.write(tmp_path / "own" / "x.mindrecord", fields, batches, "qa")
    assert own.read_bytes() == their.read_bytes()
    assert dump(own) == dump(their)
    assert np.array_equal(np.array(list(read(their, fields))), written)


@pytest.mark.parametrize("shards", [1, 3, 12])
def test_mindspore_loads_what_is_written(tmp_path: Path, shards: int) -> None:
    written = rows(100)
    paths = record.write(tmp_path / "x.mindrecord", FIELDS, [written[:60], written[60:]], "qa", shards)
    assert sorted(loaded(paths)) == sorted(written.tolist())
    if shards == 1:
        assert loaded(paths) == written.tolist()
    dealt = [row for part in range(4) for row in loaded(paths, num_shards=4, shard_id=part)]
    assert sorted(dealt) == sorted(written.tolist())


@pytest.mark.parametrize("shards", [2, 12])
def test_shards_that_mindspore_wrote_are_read(tmp_path: Path, shards: int) -> None:
    written = rows(100)
    for path in theirs(tmp_path / "x.mindrecord", [written[:60], written[60:]], shards=shards):
        found = [[values.tolist() for values in row] for row in read(path, FIELDS)]
        assert sorted(found) == sorted(written.tolist())


def test_mindspore_can_go_on_writing(tmp_path: Path) -> None:
    written = rows(100)
    [path] = record.write(tmp_path / "x.mindrecord", FIELDS, [written[:60]], "qa")
    writer = mindrecord.FileWriter.open_for_append(str(path))
    writer.write_raw_data([dict(zip(FIELDS, row, strict=True)) for row in written[60:]])
    writer.commit()
    assert np.array_equal(np.array(list(read(path, FIELDS))), written)
    assert loaded([path]) == written.tolist()


def test_other_fields_beside_ours_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.mindrecord"
    writer = mindrecord.FileWriter(file_name=str(path), shard_num=1)
    schema = {"input_ids": {"type": "int32", "shape": [-1]}, "image": {"type": "bytes"}, "label": {"type": "int64"}}
    writer.add_schema({**schema, "weights": {"type": "float32", "shape": [-1]}}, "other")
    tokens = rows(5, 1, 9)[:, 0]
    writer.write_raw_data(
        [{"input_ids": own, "image": b"\xff\xd8", "label": 3, "weights": np.ones(2, np.float32)} for own in tokens]
    )
    writer.commit()
    assert np.array_equal(np.array(list(read(path, ("input_ids",))))[:, 0], tokens)
