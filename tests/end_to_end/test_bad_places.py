"""Disks that are full and folders that cannot be written: one clear message, and the same command goes on later."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from end_to_end.command import assert_same_bytes, files, keeptune, ok, refused

from keeptune.errors import RunError
from keeptune.files import append_line


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """A disk that has no room for a file of more bytes than `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=10m")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(folder: Path, options: str) -> None:
    """Mounts a file system in memory at `folder`, or changes the options of the one that is there."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {error}")


@pytest.mark.parametrize(
    ("size", "name"),
    [
        pytest.param(100, "recipe.yaml", marks=pytest.mark.slow),
        (3_000, "data/"),
        (20_000, "checkpoints/step-4"),
        (30_000, "scores/retained-base.jsonl"),
        pytest.param(50_000, "report.html", marks=pytest.mark.slow),
    ],
)
def test_a_disk_without_room(recipe: Path, finished: Path, tmp_path: Path, size: int, name: str) -> None:
    run = tmp_path / "run"
    with no_file_over(size):
        said = refused(2, "run", recipe, "--run", run)
    assert f"{run / name}" in said and "File too large" in said
    assert not list(run.rglob("*.tmp*"))
    ok("run", recipe, "--run", run)
    assert_same_bytes(run, finished)


def test_a_log_without_room_for_another_line(tmp_path: Path) -> None:
    """Half a line would make the next one unreadable, too."""
    log = tmp_path / "log.jsonl"
    append_line(log, "x" * 80)
    with no_file_over(100), pytest.raises(RunError, match="File too large"):
        append_line(log, "y" * 80)
    append_line(log, "z" * 80)
    assert log.read_text(encoding="utf-8").split() == ["x" * 80, "z" * 80]


@pytest.mark.parametrize(
    "kilobytes", [pytest.param(16, marks=pytest.mark.slow), 60, pytest.param(300, marks=pytest.mark.slow), 700]
)
def test_a_disk_that_gets_full(recipe: Path, finished: Path, disk: Path, kilobytes: int) -> None:
    mount(disk, f"remount,size={kilobytes}k")
    said = refused(2, "run", recipe, "--run", disk / "run")
    assert "No space left on device" in said and "free space" in said
    mount(disk, "remount,size=10m")
    ok("run", recipe, "--run", disk / "run")
    assert_same_bytes(disk / "run", finished)


def test_a_full_disk_under_a_corpus(disk: Path) -> None:
    mount(disk, "remount,size=16k")
    path = disk / "corpus.jsonl"
    assert f"{path}: cannot be written (No space left on device)" in refused(2, "synth", "--rows", 999, "--out", path)
    assert not any(disk.iterdir())


def test_a_full_disk_under_records(disk: Path, model_folder: Path, squad: Path) -> None:
    mount(disk, "remount,size=16k")
    said = refused(2, "score", model_folder, "--retained", squad, "--out", disk)
    assert f"{disk / 'retained.jsonl'}: cannot be written (No space left on device)" in said
    assert not any(disk.iterdir())


def test_a_run_below_a_file(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        for verb in ("run", "data"):
            assert "cannot be written (" in refused(2, verb, recipe, "--run", folder)
    assert "cannot be written (" in refused(2, "synth", "--rows", 9, "--out", tmp_path / "file" / "corpus.jsonl")


def test_a_folder_that_may_not_be_written(recipe: Path, disk: Path) -> None:
    run = disk / "run"
    ok("data", recipe, "--run", run)
    mount(disk, "remount,ro")
    before = files(disk)
    for command in (["run", recipe, "--run", run], ["train", run], ["run", recipe, "--run", disk / "other"]):
        assert "cannot be written (Read-only file system)" in refused(2, *command)
    assert files(disk) == before
    mount(disk, "remount,rw")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(recipe: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written (Permission denied)" in refused(2, "run", recipe, "--run", tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_a_finished_run_can_be_read_where_it_cannot_be_written(finished: Path, disk: Path) -> None:
    for name, content in files(finished / "adapter").items():
        (disk / name).write_bytes(content)
    mount(disk, "remount,ro")
    assert ok("ask", disk, "计算 1.00 + 2.00 等于多少？").out
    assert keeptune("report", disk).code == 2
    mount(disk, "remount,rw")
