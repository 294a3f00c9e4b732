"""Columns by name, CSV, Parquet and archives: rows, rejected rows, and the effect of malformed records."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cpu_time import bounded_work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.config.data import ColumnsSection
from keeptune.data import table
from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sample import sample_rows
from keeptune.data.sources import Shard
from keeptune.errors import DataError

QA = RowLayout(ColumnsSection(problem="question", solution="answer"), ignored=("all",))
QA_KIND = RowLayout(ColumnsSection(problem="question", solution="answer", kind="subject"), ignored=("all",))
HEADER = "problem,solution\n"
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read(path: Path, content: bytes | str, layout: RowLayout | None = None) -> list[RawRow | RejectedRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_shard(Shard(str(path)), layout or RowLayout(ignored=("all",))))


def summarize(rows: list[RawRow | RejectedRow]) -> list[tuple[int, str]]:
    """Returns, for each row, its line and its problem or the reason for its rejection."""
    return [(row.line, row.problem if isinstance(row, RawRow) else _short(row.reason)) for row in rows]


def _short(reason: str) -> str:
    """Returns a reason without what was found."""
    return reason.partition("; ")[0].partition(": found")[0]


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("shape", ["lines", "list"])
def test_json_keys_that_the_recipe_names(tmp_path: Path, shape: str) -> None:
    items: list[Any] = [
        {"question": "q", "answer": "a"},
        {"id": 7, "answer": "a", "question": "q", "subject": "s"},
        {"question": "q", "answer": ["a"], "subject": "s"},
        {"question": "q", "subject": "s"},
        {"question": "q", "answer": "a", "subject": None},
        {"id": "1", "conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]},
    ]
    content = json.dumps(items) if shape == "list" else "\n".join(map(json.dumps, items))
    path = tmp_path / "rows"
    rows = read(path, content, QA)
    assert rows[:2] == [RawRow(str(path), 1, "q", "a"), RawRow(str(path), 2, "q", "a")]
    missing = "a key that data.columns names is missing"
    assert summarize(rows[2:]) == [(3, "solution is not a text"), (4, f"{missing}: answer"), (5, "q"), (6, "h")]
    assert summarize(read(path, content, QA_KIND)) == [
        (1, f"{missing}: subject"),
        (2, "q"),
        (3, "solution is not a text"),
        (4, f"{missing}: answer"),
        (5, "kind is not a text"),
        (6, f"{missing}: answer, question, subject"),
    ]
    labelled = read(path, content, QA_KIND)[1]
    assert isinstance(labelled, RawRow) and labelled.label == "s"


def test_a_row_records_whether_its_prompt_was_removed(tmp_path: Path) -> None:
    def conversation(conversation_id: str, prompt: str) -> str:
        turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": "2"}]
        return json.dumps({"id": conversation_id, "conversations": turns})

    lines = [conversation("1", "### Instruction:\n1 + 1\n\n### Response:"), conversation("2", "1 + 1 ")]
    rows = read(tmp_path / "rows", "\n".join(lines))
    assert [(row.problem, row.unwrapped) for row in rows if isinstance(row, RawRow)] == [
        ("1 + 1", True),
        ("1 + 1", False),
    ]


def test_csv_rows_have_the_line_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    text = '\ufeffkind,solution,problem\r\na,1,p\r\n\r\nb,"x\n\ny, ""z""",q\n,2,\u8ba1'
    assert read(path, text) == [
        RawRow(str(path), 2, "p", "1"),
        RawRow(str(path), 4, "q", 'x\n\ny, "z"'),
        RawRow(str(path), 7, "\u8ba1", "2"),
    ]
    labelled = read(path, text, RowLayout(ColumnsSection(kind="kind"), ignored=("all",)))
    assert [row.label if isinstance(row, RawRow) else row.reason for row in labelled] == ["a", "b", "kind is empty"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"a", "wrong number of fields"),
        (b"a,b,c", "wrong number of fields"),
        (b",b", "problem is empty"),
        (b"a, ", "solution is empty"),
        (b"a,\xff", "not UTF-8"),
        (b"a,\xed\xa0\x80", "not UTF-8"),
        (b'"a,b', "malformed CSV"),
        (b'a,"b"c', "malformed CSV"),
        (b'a,"b"",', "malformed CSV"),
        (b"a\rb,c", "malformed CSV"),
        (b"a," + b"b" * 1_000_000, "longer than 1 MB"),
        (b'"a' + b"b" * 1_000_000, "longer than 1 MB"),
    ],
)
def test_a_malformed_record_affects_only_its_line(tmp_path: Path, bad: bytes, reason: str) -> None:
    content = b'problem,solution\n"1\n1",2\n' + bad + b'\n3,"4, 4"\n5,6\n'
    assert summarize(read(tmp_path / "rows.csv", content)) == [(2, "1\n1"), (4, reason), (5, "3"), (6, "5")]


def test_an_unclosed_quote_before_a_long_line_affects_only_its_line(tmp_path: Path) -> None:
    content = HEADER + '1,2\n"open,2\n3,4\n' + "x" * 1_500_000 + "\n5,6"
    assert summarize(read(tmp_path / "rows.csv", content)) == [
        (2, "1"),
        (3, "malformed CSV"),
        (4, "3"),
        (5, "longer than 1 MB"),
        (6, "5"),
    ]


def test_a_record_of_many_lines_is_limited_to_1_mb(tmp_path: Path) -> None:
    def rows(lines: int) -> list[tuple[int, str]]:
        return summarize(read(tmp_path / "rows.csv", HEADER + '"' + ("x" * 99 + "\n") * lines + '",b\n1,2'))

    assert rows(9_999) == [(2, "x\n".join(["x" * 98] * 9_999) + "x\n"), (10_002, "1")]
    first, *others, last = rows(10_001)
    assert (first, last) == ((2, "longer than 1 MB"), (10_004, "1"))
    assert {reason for _, reason in others[:-1]} == {"wrong number of fields"}
    assert others[-1] == (10_003, "malformed CSV")


def test_a_large_field_is_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "rows.csv", HEADER + "a," + "b" * 900_000)
    assert isinstance(row, RawRow)
    assert len(row.solution) == 900_000


@pytest.mark.parametrize("line", ['a","', '"""', '""', '"', "a", '"a""'])
def test_adversarial_quotes_are_parsed_fast(tmp_path: Path, line: str) -> None:
    with bounded_work():
        rows = read(tmp_path / "rows.csv", HEADER + f"{line}\n" * 100_000 + 'x,"y"z')
    assert rows[-1].line == 100_002
    assert [row.line for row in rows] == sorted({row.line for row in rows})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n", "the file is empty"),
        (HEADER, "the table is empty"),
        ("Problem,answer\n1,2", "lacks 'problem' and 'solution'; its columns are 'Problem', 'answer'"),
        ("problem:solution\n1:2", "its columns are 'problem:solution'"),
        ("problem,problem,solution\n1,2,3", "has more than once 'problem'"),
        ('"problem,solution\n1,2', ":1: cannot read the header (malformed CSV)"),
        ("x" * 1_500_000, ":1: cannot read the header (longer than 1 MB)"),
        (b"problem\xff,solution\n1,2", "header is not UTF-8"),
    ],
)
def test_a_csv_file_without_its_columns_or_rows_is_an_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "rows.csv", content)
    assert message in str(caught.value)
    assert str(tmp_path / "rows.csv") in str(caught.value)
    assert ("data.columns" in str(caught.value)) == ("its columns are" in str(caught.value))


@one_folder
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5), st.booleans())
def test_csv_texts_are_preserved(tmp_path: Path, pairs: list[tuple[str, str]], all_quoted: bool) -> None:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("problem", "solution"), *pairs])
    rows = read(tmp_path / "rows.csv", sink.getvalue())
    assert len(rows) == len(pairs)
    for row, (problem, solution) in zip(rows, pairs, strict=True):
        if isinstance(row, RawRow):
            assert (row.problem, row.solution) == (problem, solution)
        else:
            assert not problem.strip() or not solution.strip()


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"compression": "zstd", "row_group_size": 700, "data_page_size": 99}]
)
def test_parquet_rows(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "rows.parquet"
    numbers = range(1, 2_501)
    columns = {"solution": [f"s{n}" for n in numbers], "n": list(numbers), "problem": [f"p{n}" for n in numbers]}
    expected = [RawRow(str(path), n, f"p{n}", f"s{n}") for n in numbers]
    assert read(path, parquet(columns, **options)) == expected


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_texts_of_every_type(tmp_path: Path, kind: Any) -> None:
    texts = pa.array(["a", None, " ", "计"]).cast(kind)
    rows = read(tmp_path / "rows.parquet", parquet({"problem": texts, "solution": ["s"] * 4}))
    assert [(line, text.partition(":")[0]) for line, text in summarize(rows)] == [
        (1, "a"),
        (2, "problem is not a text"),
        (3, "problem is empty"),
        (4, "计"),
    ]


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]], [{"problem": "a"}, {"problem": "b"}]])
def test_parquet_cells_that_are_not_texts(tmp_path: Path, values: list[Any]) -> None:
    rows = read(tmp_path / "rows.parquet", parquet({"problem": values, "solution": ["s", "t"]}))
    for number, row in enumerate(rows, 1):
        assert isinstance(row, RejectedRow)
        assert (row.line, row.reason.partition(":")[0]) == (number, "problem is not a text")
        assert row.text.endswith("st"[number - 1])
    assert len(rows) == 2


def test_parquet_bytes_that_are_not_utf8_affect_only_their_row(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")]
    )
    rows = read(tmp_path / "rows.parquet", parquet({"problem": texts, "solution": ["s"] * 3}))
    assert summarize(rows) == [(1, "a"), (2, "not UTF-8"), (3, "c")]


def test_a_long_parquet_row_is_rejected(tmp_path: Path) -> None:
    rows = read(tmp_path / "rows.parquet", parquet({"problem": ["a", "b" * 1_000_000], "solution": ["s", "s"]}))
    assert summarize(rows) == [(1, "a"), (2, "longer than 1 MB")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Parquet file"),
        (b"PAR1", "not a Parquet file"),
        (parquet({"problem": ["a"], "solution": ["b"]})[:-20], "not a Parquet file"),
        (parquet({"question": ["a"]}), "lacks 'problem' and"),
        (parquet({"problem": pa.array([], pa.string()), "solution": pa.array([], pa.string())}), "the table is empty"),
    ],
)
def test_a_parquet_file_without_its_columns_or_rows_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "rows.parquet", content)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".ZST", zstd)])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows", b'\xef\xbb\xbf{"problem": "p", "solution": "s"}\n\n{'),
        ("rows.json", b'\xef\xbb\xbf [{"problem": "p", "solution": "s"},\n7]'),
        ("rows.csv", b"\xef\xbb\xbfproblem,solution\np,s\n1,2,3"),
    ],
)
def test_an_archive_is_read_in_the_format_of_its_content(
    tmp_path: Path, ending: str, pack: Any, name: str, content: bytes
) -> None:
    packed, plain = tmp_path / (name + ending), tmp_path / name
    rows, expected = read(packed, pack(content)), read(plain, content)
    assert [isinstance(row, RawRow) for row in rows] == [True, False]
    assert [row[2:] for row in rows if isinstance(row, RawRow)] == [
        row[2:] for row in expected if isinstance(row, RawRow)
    ]
    assert summarize(rows) == summarize(expected)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_damaged_archive_is_an_error_with_its_path(tmp_path: Path, ending: str, pack: Any, name: str) -> None:
    path = tmp_path / (name + ending)
    whole = pack((HEADER if "csv" in name else "").encode() + b'{"problem": "p", "solution": "s"}\n' * 9)
    checksum = [whole[:-8] + b"????" + whole[-4:]] if ending == ".gz" else []
    for damaged in (whole[: len(whole) // 2], whole[:-1], b"plain text, never packed", *checksum):
        with pytest.raises(DataError, match="cannot be unpacked") as caught:
            read(path, damaged)
        assert str(path) in str(caught.value)


def test_a_parquet_file_in_an_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unpack it"):
        read(tmp_path / "rows.parquet.gz", gzip.compress(parquet({"problem": ["p"], "solution": ["s"]})))


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.jsonl.gz"])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_rows(tmp_path / name))


def test_a_dictionary_of_long_texts_takes_bounded_memory(tmp_path: Path) -> None:
    """A file of 1 kB, whose dictionary repeats a text of 900 kB, took 1.8 GB."""
    count = 500
    texts = {"problem": ["x" * 900_000], "solution": ["1"]}
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(values))
        for name, values in texts.items()
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet", compression="zstd")
    assert (tmp_path / "rows.parquet").stat().st_size < 2_000
    tracemalloc.start()
    assert sum(isinstance(row, RawRow) for row in read_rows(tmp_path / "rows.parquet")) == count
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 150_000_000


def test_batches_are_short_where_a_dictionary_can_repeat_a_long_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of 4 kB with 500 cells of 100 MB, 64 rows were decoded at once: 6.7 GB."""
    monkeypatch.setattr(table, "_BATCH_BYTES", 1 << 20)
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array(["x" * 300_000]))
    turns = [[{"role": "user", "content": "y" * 400_000}]] * 100
    short = pa.array(["1"] * 100)
    for problems, longest in ((texts, 3), (pa.array(turns), 2), (short, 64)):
        columns = {"problem": problems, "solution": short}
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet", compression="zstd")
        with pq.ParquetFile(tmp_path / "rows.parquet") as file:
            sizes = [batch.num_rows for batch in table.read_batches(file, 64, list(columns))]
        assert sum(sizes) == 100 and sizes[0] <= longest
        assert sizes[0] == 64 or longest < 64
    rows = read_shard(Shard(str(tmp_path / "rows.parquet")), RowLayout(ignored=("all",)))
    assert [row.line for row in rows] == list(range(1, 101))


@pytest.mark.parametrize("cell", [pa.array([2**31 - 1], pa.date32()), pa.array([2**62], pa.duration("s"))])
def test_values_that_python_cannot_represent_reject_their_row(tmp_path: Path, cell: Any) -> None:
    """They ended in an OverflowError."""
    [row] = read(tmp_path / "rows.parquet", parquet({"problem": cell, "solution": ["1"]}))
    assert isinstance(row, RejectedRow) and row.reason.startswith("problem is not a text")
    assert len(sample_rows(str(tmp_path / "rows.parquet"), RowLayout()).rows) == 1


def test_a_table_of_many_columns_gets_a_short_message(tmp_path: Path) -> None:
    """The message named all 100,000 columns."""
    with pytest.raises(DataError, match="lacks 'problem'") as caught:
        read(tmp_path / "rows.parquet", parquet({f"column {number}": ["x"] for number in range(300)}))
    assert len(str(caught.value)) < 1_000 and "288 more" in str(caught.value)
