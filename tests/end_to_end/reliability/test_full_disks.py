"""A disk that gets full or read-only at any point of a run: one message with the file, and the same command goes on."""

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import assert_same_bytes
from end_to_end.reliability.forked import keeptune, limit_files, log_uniform

REFUSED = 2
SELECT_ON = ("adapter", "scores", "result.json", "report.html", "report.md", "SHA256SUMS")
"""What the stages after training write."""


def mount(folder: Path, options: str) -> bool:
    """Whether a file system in memory could be mounted, or changed, at `folder`."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=40m"):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def without_later_stages(finished: Path, run: Path) -> None:
    """A copy of a finished run as it is after training."""
    shutil.copytree(finished, run)
    for name in SELECT_ON:
        place = run / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()


def own_cache(tmp_path: Path) -> None:
    os.environ["KEEPTUNE_CACHE"] = str(tmp_path / "cache")


def check_refused(code: int, text: str, whole: int, outcomes: Counter[str]) -> None:
    assert "Traceback" not in text, text
    assert code in (REFUSED, whole), text
    if code == REFUSED:
        assert "cannot be written (" in " ".join(text.split()), text
    outcomes["refused" if code == REFUSED else "had room"] += 1


@pytest.mark.slow
def test_files_that_get_too_large(points: Any, record: Any, recipe: Path, finished: Path, tmp_path: Path) -> None:
    """Half of the points begin after training, because training writes the largest files."""
    count, run, draw, outcomes = points(6), tmp_path / "run", random.Random(2), Counter[str]()
    arguments = ["run", recipe, "--run", run]
    whole = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path)).code
    for number in range(count):
        for folder in (run, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        if number % 2:
            without_later_stages(finished, run)
        limit = limit_files(log_uniform(draw, 50, 300_000), is_fatal=False)
        stopped = keeptune(*arguments, watched=run, prepare=lambda limit=limit: (own_cache(tmp_path), limit()))
        check_refused(stopped.code, stopped.text, whole, outcomes)
        resumed = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path))
        assert resumed.code == whole, resumed.text
        assert_same_bytes(run, finished)
    record(points=count, **outcomes, resumed_to_the_same_bytes=count)


@pytest.mark.slow
def test_a_disk_without_space(
    points: Any, record: Any, recipe: Path, finished: Path, disk: Path, tmp_path: Path
) -> None:
    count, run, draw, outcomes = points(6), disk / "run", random.Random(3), Counter[str]()
    arguments = ["run", recipe, "--run", run]
    for number in range(count):
        assert mount(disk, "remount,size=40m")
        for folder in (run, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        if number % 2:
            without_later_stages(finished, run)
        used = shutil.disk_usage(disk).used // 1024
        assert mount(disk, f"remount,size={used + log_uniform(draw, 4, 1_000)}k")
        stopped = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path))
        check_refused(stopped.code, stopped.text, 4, outcomes) if stopped.code else outcomes.update(["had room"])
        assert mount(disk, "remount,size=40m")
        resumed = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path))
        assert resumed.code in (0, 4), resumed.text
        assert_same_bytes(run, finished)
    record(points=count, **outcomes, resumed_to_the_same_bytes=count)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(
    points: Any, record: Any, recipe: Path, finished: Path, disk: Path, tmp_path: Path
) -> None:
    count, run, draw, outcomes = points(4), disk / "run", random.Random(4), Counter[str]()
    arguments = ["run", recipe, "--run", run]
    whole = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path))
    for _ in range(count):
        for folder in (run, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        first = draw.randint(1, whole.changes)

        def lock(number: int, first: int = first) -> None:
            if first <= number < first + 20:  # busy while a file is open for writing
                mount(disk, "remount,ro")

        stopped = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path), at_change=lock)
        assert mount(disk, "remount,rw")
        check_refused(stopped.code, stopped.text, whole.code, outcomes)
        resumed = keeptune(*arguments, watched=run, prepare=lambda: own_cache(tmp_path))
        assert resumed.code == whole.code, resumed.text
        assert_same_bytes(run, finished)
    record(points=count, **outcomes, resumed_to_the_same_bytes=count)
