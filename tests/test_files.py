"""Atomic writing: a file or folder is complete or keeps its previous content."""

import json
import os
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file

from keeptune.errors import RunError
from keeptune.files import (
    atomic_folder,
    file_sha256,
    flush,
    new_folder,
    open_regular,
    read_json,
    remove_temporary_files,
    sha256_if_file,
    write_atomically,
    write_error,
    write_json,
    write_text,
)


def test_text_and_json_are_written(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "面积\n")
    assert (tmp_path / "deep" / "er" / "a.txt").read_bytes() == "面积\n".encode()
    value = {"kind": "面积", "n": [1, 2.5, None]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "面积" in text
    assert read_json(tmp_path / "a.json") == value


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half(scratch: Path) -> None:
        scratch.write_text("ne", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"a\.txt: .*\(No space left"):
        write_atomically(path, half)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_is_readable_during_the_write(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write(scratch: Path) -> None:
        scratch.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"

    with path.open(encoding="utf-8") as reader:
        write_atomically(path, write)
        assert reader.read() == "old"  # an open file keeps the complete old content
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/inside", "file/in/side", "n" * 300])
def test_invalid_paths_raise(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / name, "text")


def test_flush(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")
    free_descriptor = os.dup(0)
    os.close(free_descriptor)
    flush(tmp_path / "a")
    flush(tmp_path)
    next_descriptor = os.dup(0)
    os.close(next_descriptor)
    assert next_descriptor == free_descriptor  # flush closed its descriptor
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "b")


def test_write_error_names_file_and_reason() -> None:
    error = write_error(Path("runs/a/log.jsonl"), OSError(13, "Permission denied"))
    assert "runs/a/log.jsonl" in str(error) and "Permission denied" in str(error)
    assert "(OSError)" in str(write_error(Path("a"), OSError()))


def test_folder_is_replaced_atomically(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with atomic_folder(target) as scratch:
        (scratch / "a").write_text("one", encoding="utf-8")
    large = {"a": torch.zeros(10_000)}
    with (
        tiny.full_disk(1000),
        pytest.raises(RunError, match=r"adapter: cannot be written"),
        atomic_folder(target) as scratch,
    ):
        save_file(large, scratch / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert (target / "a").read_text(encoding="utf-8") == "one"
    with pytest.raises(RunError, match="already exists"), new_folder(target):
        pass


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """F5 and F6: `step-N.tmp-PID` and `data/scratch-*` survived into the finished run."""
    kept = ["recipe.yaml", "notes.tmp-old", "checkpoints/step-5/a.bin", "data/scratch-pad.txt", "data/train.parquet"]
    left = ["result.json.tmp-12", "checkpoints/step-6.tmp-77/a.bin", "adapter.tmp-7/b.bin", "data/scratch-ab_cd012/c"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    outside.mkdir()
    (outside / "file").touch()
    (tmp_path / "link.tmp-3").symlink_to(outside)
    remove_temporary_files(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / "link.tmp-3").is_symlink() and (outside / "file").exists()
    assert not (tmp_path / "adapter.tmp-7").exists()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """F11: pipes and devices are refused by name."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="not a regular file") as caught:
            open_regular(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
        with pytest.raises(RunError, match=name):
            read_json(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file/below", "folder", "x" * 300, "a\0b"])
def test_a_name_that_can_be_no_file_has_no_hash(tmp_path: Path, name: str) -> None:
    """A name of 300 characters in SHA256SUMS or a manifest ended in an OSError."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    assert sha256_if_file(tmp_path / name) is None
    with pytest.raises(RunError, match="cannot be read"):
        file_sha256(tmp_path / name)
    assert sha256_if_file(tmp_path / "file") == file_sha256(tmp_path / "file")
