"""Names resolve to files, and reading a file in shards gives the same rows and lines as reading it whole."""

import gzip
import hashlib
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.config.data import ColumnsSection
from keeptune.data import hub
from keeptune.data.columns import RowLayout
from keeptune.data.reader import RawRow, RejectedRow, read_rows, read_shard
from keeptune.data.sources import Shard, list_source_files, resolve_sources
from keeptune.errors import DataError, RecipeError

ROW = json.dumps({"problem": "计算 1 + 1", "solution": "2"}, ensure_ascii=False).encode()
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def in_shards(path: Path, shard_bytes: int) -> list[RawRow | RejectedRow]:
    shards = resolve_sources([str(path)], shard_bytes).shards
    return [row for shard in shards for row in read_shard(shard, RowLayout())]


def write(path: Path, content: bytes = ROW) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_a_file_has_its_hash_and_size(tmp_path: Path) -> None:
    content = b"\n".join([ROW] * 9)
    resolved = resolve_sources([write(tmp_path / "rows.jsonl", content)])
    (file,) = resolved.files
    assert (file.sha256, file.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert resolved.shards == [Shard(file.file, 0, len(content), 1)]


def test_a_folder_resolves_to_its_known_files_sorted(tmp_path: Path) -> None:
    known = ["a.jsonl", "b/c.JSON", "b/d.csv", "b/e.parquet", "f.csv.gz", "g.jsonl.zst"]
    for name in [*known, "notes.md", "a.jsonl.bak", "h.gz", ".hidden.json", ".cache/rows.jsonl"]:
        write(tmp_path / name)
    resolved = resolve_sources([str(tmp_path)])
    assert [file.file for file in resolved.files] == sorted(str(tmp_path / name) for name in known)


def test_a_glob_resolves_to_sorted_files_and_each_file_is_used_once(tmp_path: Path) -> None:
    b, a = write(tmp_path / "b.jsonl"), write(tmp_path / "a.jsonl")
    deep = write(tmp_path / "c" / "d.jsonl")
    odd = write(tmp_path / "[x]*.jsonl")

    def files(*names: str) -> list[str]:
        return [file.file for file in resolve_sources(names).files]

    assert files(str(tmp_path / "?.jsonl")) == [a, b]
    assert files(str(tmp_path / "**" / "?.jsonl")) == [a, b, deep]
    assert files(b, str(tmp_path / "?.*"), a) == [b, a]
    assert files(odd) == [odd], "the name of an existing file is not a glob"


@pytest.mark.parametrize("name", ["none.jsonl", "*.jsonl", "**/*.csv", "folder"])
def test_a_name_without_files_is_an_error_that_contains_the_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "folder" / "notes.md")
    with pytest.raises(DataError) as caught:
        resolve_sources([str(tmp_path / name)])
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        resolve_sources([write(tmp_path / "rows.jsonl", content)])


def test_a_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        resolve_sources([str(tmp_path / "pipe")])


def test_a_file_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    write(path)
    with pytest.raises(DataError, match=r"udcff\.jsonl.*not UTF-8"):
        resolve_sources([str(tmp_path)])


def test_only_json_lines_are_divided(tmp_path: Path) -> None:
    lines = b"\n".join([ROW] * 9)
    talk = json.dumps({"id": "1", "conversations": []}).encode()
    whole = {
        "list.json": b"\xef\xbb\xbf \n[" + b",\n".join([ROW] * 9) + b"]",
        "talks.jsonl": lines + b"\n" + talk,
        "table.csv": b"problem,solution\n" + b"1,2\n" * 9,
        "packed.jsonl.gz": gzip.compress(lines),
    }
    for name, content in whole.items():
        path = write(tmp_path / name, content)
        assert resolve_sources([path], shard_bytes=10).shards == [Shard(path)]
    assert len(resolve_sources([write(tmp_path / "lines.jsonl", lines)], shard_bytes=10).shards) == 9


def test_a_shard_has_about_the_requested_size(tmp_path: Path) -> None:
    content = (ROW + b"\n") * 100_000
    path = write(tmp_path / "rows.jsonl", content)
    shards = resolve_sources([path], shard_bytes=1_000_000).shards
    sizes = [shard.end - shard.start for shard in shards if shard.end]
    assert sum(sizes) == len(content)
    assert all(0 <= size - 1_000_000 <= len(ROW) for size in sizes[:-1])
    for shard in shards:
        assert content[: shard.start].count(b"\n") == shard.first_line - 1


@pytest.mark.parametrize("offset", range(-16, 2))
def test_conversations_are_detected_across_block_boundaries(tmp_path: Path, offset: int) -> None:
    before = b" " * ((2 << 20) + offset)
    path = write(tmp_path / "rows.jsonl", before + b'"conversations"' + b"\n" * 9)
    assert resolve_sources([path], shard_bytes=10).shards == [Shard(path)]


def test_repeated_ids_are_found_in_a_file_of_several_shard_sizes(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}]
    lines = [json.dumps({"id": name, "conversations": turns}) for name in "abca"]
    rows = in_shards(Path(write(tmp_path / "talks.jsonl", "\n".join(lines).encode())), shard_bytes=1)
    assert [row.reason.partition(":")[0] if isinstance(row, RejectedRow) else None for row in rows] == [
        *[None] * 3,
        "id occurs twice",
    ]


def test_a_file_is_scanned_with_bounded_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROW + b"\n" + b"x" * 30_000_000 + b"\n" + ROW)
    tracemalloc.start()
    resolved = resolve_sources([path], shard_bytes=1_000_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [shard.first_line for shard in resolved.shards] == [1, 3]
    assert peak_bytes < 10_000_000


LINES = st.one_of(
    st.sampled_from([ROW, ROW + b"\r", b"", b" ", b"{", b"null", b"\xff", b"\xef\xbb\xbf", b'{"problem": "1"}']),
    st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b"")),
)


@one_folder
@given(lines=st.lists(LINES, max_size=12), mark=st.booleans(), end=st.booleans(), shard_bytes=st.integers(1, 200))
def test_shards_give_the_rows_of_the_whole_file(
    tmp_path: Path, lines: list[bytes], mark: bool, end: bool, shard_bytes: int
) -> None:
    content = b"\xef\xbb\xbf" * mark + b"\n".join(lines) + b"\n" * end
    path = Path(write(tmp_path / "rows.jsonl", content))

    def outcome(read: Any) -> Any:
        try:
            return list(read())
        except DataError as error:
            return str(error)

    assert outcome(lambda: in_shards(path, shard_bytes)) == outcome(lambda: read_rows(path))


def test_a_hub_data_set_without_the_library_is_an_error_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RecipeError, match=r"pip install 'keeptune\[hub\]'"):
        resolve_sources(["hf:someone/rows"])


def test_a_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the optional library datasets is not installed")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    table = pa.table({"question": ["1 + 1", None, "2 + 2"], "answer": ["2", "3", "4"], "n": [1, 2, 3]})
    pq.write_table(table, folder / "train.parquet")
    pq.write_table(table.slice(0, 1), folder / "test.parquet")
    layout = RowLayout(ColumnsSection(problem="question", solution="answer"), ignored=("n",))
    resolved = resolve_sources([f"hf:{folder}", f"hf:{folder}#train", f"hf:{folder}#test"])
    train, test = (f"hf:{folder}#{split}" for split in ("train", "test"))
    assert [file.file for file in resolved.files] == [train, test]
    assert resolved.files[0].sha256 != resolved.files[1].sha256
    assert resolved == resolve_sources([f"hf:{folder}", f"hf:{folder}#test"])
    rows = [row for shard in resolved.shards for row in read_shard(shard, layout)]
    assert rows == [
        RawRow(train, 1, "1 + 1", "2"),
        RejectedRow(train, 2, "problem is not a text: found null; supported is a text", "3", 1),
        RawRow(train, 3, "2 + 2", "4"),
        RawRow(test, 1, "1 + 1", "2"),
    ]
    with pytest.raises(DataError, match="would be dropped: 'n'"):
        list(read_shard(resolved.shards[0], RowLayout()))
    for name in (f"hf:{folder}#dev", f"hf:{tmp_path / 'none'}"):
        with pytest.raises(DataError, match="cannot be loaded"):
            resolve_sources([name])
    assert hub.with_default_split("hf:a/b") == "hf:a/b#train"


def test_a_glob_follows_no_links_to_folders_and_skips_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "rows" / "inner").mkdir(parents=True)
    (tmp_path / "rows" / ".hidden").mkdir()
    for name in ("rows/a.jsonl", "rows/inner/b.jsonl", "rows/.hidden/c.jsonl", "rows/.d.jsonl"):
        (tmp_path / name).write_text('{"problem": "p", "solution": "s"}\n', encoding="utf-8")
    for number in range(20):  # each link doubles what a walk that follows links would see
        (tmp_path / "rows" / f"self{number}").symlink_to(tmp_path / "rows")
    (tmp_path / "rows" / "zero.jsonl").symlink_to("/dev/zero")
    expected = [str(tmp_path / "rows" / name) for name in ("a.jsonl", "inner/b.jsonl")]
    assert list_source_files([str(tmp_path / "rows" / "**" / "*.jsonl")]) == expected
    assert list_source_files([str(tmp_path / "rows" / "**")]) == expected
    assert list_source_files([str(tmp_path / "r*" / "a.jsonl")]) == expected[:1]


def test_a_link_to_a_device_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"zero\.jsonl: cannot be read"):
        resolve_sources([str(tmp_path)])
