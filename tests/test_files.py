"""A file is whole or not there, whatever happens while it is written."""

import json
import os
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file

from keeptune.errors import RunError
from keeptune.files import flush, new_folder, unwritable, whole_folder, write_json, write_text, write_whole


def test_text_and_json_come_back_as_written(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "面积\n")
    assert (tmp_path / "deep" / "er" / "a.txt").read_bytes() == "面积\n".encode()
    value = {"kind": "面积", "n": [1, 2.5, None]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "面积" in text


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half(scratch: Path) -> None:
        scratch.write_text("ne", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"a\.txt: cannot be written \(No space left on device\); free space"):
        write_whole(path, half)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_while_it_is_written_the_old_file_stays_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write(scratch: Path) -> None:
        scratch.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"

    with path.open(encoding="utf-8") as reader:
        write_whole(path, write)
        assert reader.read() == "old"  # whoever reads it meanwhile has the whole old file
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/inside", "file/in/side", "n" * 300])
def test_a_place_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / name, "text")


def test_a_file_and_a_folder_can_be_flushed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")
    free = os.dup(0)
    os.close(free)
    flush(tmp_path / "a")
    flush(tmp_path)
    again = os.dup(0)
    os.close(again)
    assert again == free  # no descriptor was left open
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "b")


def test_the_error_names_the_file_the_reason_and_what_to_do() -> None:
    error = unwritable(Path("runs/a/log.jsonl"), OSError(13, "Permission denied"))
    assert str(error) == (
        "runs/a/log.jsonl: cannot be written (Permission denied); free space or choose another folder, then run again"
    )
    assert "(OSError)" in str(unwritable(Path("a"), OSError()))


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with whole_folder(target) as scratch:
        (scratch / "a").write_text("one", encoding="utf-8")
    large = {"a": torch.zeros(10_000)}
    with (
        tiny.full_disk(1000),
        pytest.raises(RunError, match=r"adapter: cannot be written \(.*free space or choose another folder"),
        whole_folder(target) as scratch,
    ):
        save_file(large, scratch / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert (target / "a").read_text(encoding="utf-8") == "one"
    with pytest.raises(RunError, match="it exists already"), new_folder(target):
        pass
