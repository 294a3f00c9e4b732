"""Fuzz tests of the readers: corrupted files never crash them, and a corrupted line affects no other line."""

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sources import resolve_sources
from keeptune.data.stream import FOREIGN, UTF16_MARKS
from keeptune.errors import DataError

Rows = list[RawRow | RejectedRow]

OBJECTS = [{"problem": f"计算 {number} + 1", "solution": f"{number} + 1\n= {number + 1}"} for number in range(12)]
TALKS = [
    {
        "id": str(number),
        "conversations": [
            {"from": "human", "value": f"### Instruction:\n{row['problem']}\n\n### Response:"},
            {"from": "gpt", "value": row["solution"]},
        ],
    }
    for number, row in enumerate(OBJECTS)
]
LINES = [json.dumps(row, ensure_ascii=False).encode() for row in OBJECTS]
TALK_LINES = [json.dumps(row, ensure_ascii=False).encode() for row in TALKS]
RECORDS = [b"problem,solution", b"1,2", b'"3, 3",4', b"5,6", b'7,"8 ""eight"""', b"9,10", b'"11\n11",12', b"13,14"]
SINGLE_LINE_RECORDS = [number for number, record in enumerate(RECORDS) if number and b"\n" not in record]

SPECIAL_BYTES = [
    b'"',
    b'""',
    b"\\",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"1e999",
]
SPECIAL_BYTES += [
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xe8",
    b"null",
    b'"problem"',
    b'"conversations"',
    b"PAR1",
]


def table(write: Callable[[io.BytesIO], None]) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


PARQUET = table(lambda sink: pq.write_table(pa.Table.from_pylist(OBJECTS), sink, compression="none"))
PARQUET_PACKED = table(lambda sink: pq.write_table(pa.Table.from_pylist(OBJECTS), sink, use_dictionary=False))


def corrupt(chance: random.Random, content: bytes) -> bytes:
    """Returns the content with up to four changes: bytes removed, replaced or inserted."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(changed))
        piece = chance.choice(SPECIAL_BYTES) if chance.random() < 0.7 else chance.randbytes(chance.randint(0, 3))
        changed[place : place + chance.choice((0, 0, 1, 2, 9))] = piece
    return bytes(changed)


def read(path: Path, content: bytes) -> Rows | None:
    """Returns the rows of a file, or None if it is an error."""
    path.write_bytes(content)
    try:
        return list(read_rows(path))
    except DataError as error:
        assert str(path) in str(error)
        return None


def in_shards(path: Path) -> Rows | None:
    try:
        return [row for shard in resolve_sources([str(path)], 100).shards for row in read_shard(shard, RowLayout())]
    except DataError:
        return None


def fuzz_lines_anywhere(folder: Path, seeds: range) -> None:
    """Every non-blank line is a row or a rejected row, in the whole file and in shards."""
    path = folder / "rows.jsonl"
    for seed in seeds:
        chance = random.Random(seed)
        content = corrupt(chance, b"\n".join(chance.choice((LINES, TALK_LINES))))
        rows = read(path, content)
        assert in_shards(path) == rows
        if content.startswith((*FOREIGN, *UTF16_MARKS)):
            continue  # the corruption made it a file of another program, or UTF-16
        if not content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            lines = [
                number
                for number, line in enumerate(content.split(b"\n"), 1)
                if line.removeprefix(b"\xef\xbb\xbf").strip()
            ]
            assert rows is not None
            assert [row.line for row in rows] == lines


def fuzz_one_line(folder: Path, seeds: range) -> None:
    """The other lines are read as without the corrupted one."""
    path = folder / "rows.jsonl"
    for seed in seeds:
        chance = random.Random(seed)
        position = chance.randrange(1, len(LINES))
        lines = [*LINES[:position], corrupt(chance, LINES[position]).replace(b"\n", b""), *LINES[position + 1 :]]
        rows = read(path, b"\n".join(lines))
        assert rows is not None
        others = [
            RawRow(str(path), n, row["problem"], row["solution"])
            for n, row in enumerate(OBJECTS, 1)
            if n != position + 1
        ]
        assert [row for row in rows if row.line != position + 1] == others


def fuzz_one_record(folder: Path, seeds: range) -> None:
    """The other records are read as without the corrupted one, even if it opens a quote that is never closed."""
    path = folder / "rows.csv"
    good = read(path, b"\n".join(RECORDS))
    assert good is not None
    assert len(good) == len(RECORDS) - 1
    for seed in seeds:
        chance = random.Random(seed)
        position = chance.choice(SINGLE_LINE_RECORDS)
        line = good[position - 1].line
        records = [
            *RECORDS[:position],
            corrupt(chance, RECORDS[position]).replace(b"\n", b""),
            *RECORDS[position + 1 :],
        ]
        rows = read(path, b"\n".join(records))
        assert rows is not None
        assert [row for row in rows if row.line != line] == [row for row in good if row.line != line]
        assert sum(row.line == line for row in rows) <= 1


def fuzz_csv_anywhere(folder: Path, seeds: range) -> None:
    """Each row begins on its own line, in order; without quotes, every line is a row or a rejected row."""
    path = folder / "rows.csv"
    for seed in seeds:
        content = corrupt(random.Random(seed), b"\n".join(RECORDS))
        rows = read(path, content)
        if rows is not None:
            lines = [row.line for row in rows]
            assert lines == sorted(set(lines))
            if b'"' not in content:
                filled = [n for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
                assert lines == filled[1:]


def fuzz_whole_file(
    folder: Path, seeds: range, name: str, contents: list[bytes], pack: Callable[[bytes], bytes]
) -> None:
    """The rows are numbered from 1 without gaps, or the file is an error."""
    path = folder / name
    for seed in seeds:
        chance = random.Random(seed)
        content = chance.choice(contents)
        changed = corrupt(chance, pack(content)) if chance.random() < 0.5 else pack(corrupt(chance, content))
        rows = read(path, changed)
        if rows is not None and changed.lstrip().startswith((b"[", b"PAR1")):
            assert [row.line for row in rows] == list(range(1, len(rows) + 1))


LISTS = [b"[" + b",\n".join(lines) + b"]" for lines in (LINES, TALK_LINES)]
FUZZERS: dict[str, tuple[int, Callable[[Path, range], None]]] = {
    "lines, any place": (2_000, fuzz_lines_anywhere),
    "lines, one of them": (2_000, fuzz_one_line),
    "csv, one record": (2_000, fuzz_one_record),
    "csv, any place": (1_500, fuzz_csv_anywhere),
    "lists": (1_500, lambda folder, seeds: fuzz_whole_file(folder, seeds, "rows.json", LISTS, bytes)),
    "parquet": (
        700,
        lambda folder, seeds: fuzz_whole_file(folder, seeds, "rows.parquet", [PARQUET, PARQUET_PACKED], bytes),
    ),
    "packed lines": (
        1_000,
        lambda folder, seeds: fuzz_whole_file(
            folder, seeds, "rows.jsonl.gz", [b"\n".join(LINES), *LISTS], gzip.compress
        ),
    ),
    "packed csv": (
        500,
        lambda folder, seeds: fuzz_whole_file(folder, seeds, "rows.csv.gz", [b"\n".join(RECORDS)], gzip.compress),
    ),
}


def test_at_least_ten_thousand_files_are_tested() -> None:
    assert sum(files for files, _ in FUZZERS.values()) >= 10_000


@pytest.mark.parametrize("name", FUZZERS)
def test_corrupted_files_never_crash_a_reader(tmp_path: Path, name: str) -> None:
    files, fuzz = FUZZERS[name]
    fuzz(tmp_path, range(files))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_corrupted_files_never_crash_a_reader_extended(tmp_path: Path, name: str) -> None:
    files, fuzz = FUZZERS[name]
    fuzz(tmp_path, range(files, 20 * files))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(SPECIAL_BYTES), max_size=12).map(b"".join)),
    ending=st.sampled_from(["", ".json", ".csv", ".parquet", ".gz", ".zst", ".csv.gz"]),
    has_header=st.booleans(),
)
def test_arbitrary_bytes_never_crash_a_reader(tmp_path: Path, content: bytes, ending: str, has_header: bool) -> None:
    rows = read(tmp_path / f"rows{ending}", RECORDS[0] + b"\n" + content if has_header else content)
    assert rows is None or rows
