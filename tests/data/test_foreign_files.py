"""Files as other programs write them: each is read, or refused with its place and a remedy."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sources import Shard, resolve_sources
from keeptune.errors import DataError

PAIRS = [(f"Where is {number}?", f"in {number}") for number in range(4)]
LINES = "".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in PAIRS)


def table(delimiter: str) -> str:
    return "\n".join(delimiter.join(cells) for cells in [("question", "answer"), *PAIRS]) + "\n"


def texts(path: Path) -> list[tuple[str, str]]:
    return [(row.problem, row.solution) for row in read_rows(path) if isinstance(row, RawRow)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-with-mark"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "，"])
def test_tables_with_any_usual_delimiter_and_encoding(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Excel writes semicolons in half of Europe, and UTF-16 with tabs: both were one column without a name."""
    text = table(delimiter)
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding.endswith("mark") else text.encode(encoding)
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert texts(path) == PAIRS


def test_the_delimiter_is_that_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('sep=;\r\n"question";answer\r\n"a;b, c";"1,5"\r\nd;2\r\n', encoding="utf-8")
    rows = list(read_rows(path))
    assert [(row.line, row.problem, row.solution) for row in rows if isinstance(row, RawRow)] == [
        (3, "a;b, c", "1,5"),
        (4, "d", "2"),
    ]
    path.write_text("question,answer\na;b,1;5\n", encoding="utf-8")
    assert texts(path) == [("a;b", "1;5")]
    path.write_text('"question,of;all"\tanswer\na\t1\n', encoding="utf-8")
    with pytest.raises(DataError) as error:
        list(read_rows(path))
    assert "'question,of;all', 'answer'" in str(error.value)


@pytest.mark.parametrize("size", [4, 30_000])
def test_json_lines_in_utf_16_are_one_shard(tmp_path: Path, size: int) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"question": f"问题 {number} 😀", "answer": str(number)}, ensure_ascii=False)
        for number in range(size)
    ]
    path.write_bytes("\n".join(lines).encode("utf-16"))
    [shard] = resolve_sources([str(path)], shard_bytes=100).shards
    rows = list(read_shard(shard, RowLayout()))
    assert [row.line for row in rows] == list(range(1, size + 1))
    assert isinstance(rows[-1], RawRow) and rows[-1].problem == f"问题 {size - 1} 😀"


@pytest.mark.parametrize("cut", [b"\x00", b"\x00\xd8\x61", b"\x3d\xd8"])
def test_half_a_character_of_utf_16_costs_its_row(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES.encode("utf-16") + cut)
    *rows, last = read_rows(path)
    assert len(rows) == len(PAIRS) and all(isinstance(row, RawRow) for row in rows)
    assert isinstance(last, RejectedRow) and last.line == len(PAIRS) + 1


def zipped() -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rows.jsonl", LINES)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        # An archive that stores its file was read as rows, with two lines of it rejected.
        ("rows.jsonl.zip", zipped(), ["ZIP", "unpack"]),
        ("rows.xlsx", zipped(), ["Excel", "CSV UTF-8"]),
        ("rows.csv", zipped(), ["Excel"]),
        ("rows.parquet", zipped(), ["ZIP"]),
        ("rows.jsonl", gzip.compress(LINES.encode()), ["gzip", ".gz"]),
        ("rows.jsonl", b"PAR1 and more", ["Parquet", ".parquet"]),
        ("rows.arrow", b"ARROW1\0\0", ["Arrow", "Parquet"]),
        ("rows.db", b"SQLite format 3\0", ["SQLite", "export"]),
        ("rows.csv", "问题,答案\n包裹在哪里,北京\n".encode("gb18030"), ["rows.csv:1", "UTF-8", "iconv"]),
        ("rows.csv", b"question,answer\ra,b\rc,d\r", ["rows.csv:1", "CR"]),
    ],
    # Not the contents: archives hold the time, so two processes of a parallel run would collect other tests.
    ids=["zip", "xlsx", "zip-csv", "zip-parquet", "gzip", "parquet", "arrow", "sqlite", "gb18030", "cr"],
)
def test_files_of_other_programs_are_named(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        list(read_shard(Shard(str(path)), RowLayout()))
    assert [word for word in [str(path), *words] if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (LINES.split("\n")[0] + ",", "comma"),
        (LINES.split("\n")[0] * 2, "several objects"),
        ("{'question': 'a', 'answer': 'b'}", "json.dumps"),
        ("{", "several lines"),
        ("# my rows", "comment"),
        ("// my rows", "comment"),
    ],
)
def test_a_malformed_line_says_what_is_wrong(tmp_path: Path, line: str, word: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{LINES}{line}\n{LINES}", encoding="utf-8")
    rows = list(read_rows(path))
    rejected = [row for row in rows if isinstance(row, RejectedRow)]
    assert len(rows) == 2 * len(PAIRS) + 1 and [row.line for row in rejected] == [len(PAIRS) + 1]
    assert rejected[0].reason.startswith("malformed JSON: ") and word in rejected[0].reason
