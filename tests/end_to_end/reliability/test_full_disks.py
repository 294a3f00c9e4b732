"""A disk that gets full or read-only at any point of a run: one message with the file, and the same command goes on."""

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import assert_same_bytes
from end_to_end.reliability.forked import Ended, keeptune, limit_files, log_uniform

REFUSED, COMPLETE = 2, (0, 4)
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


@dataclass
class Campaign:
    """Runs that a disk stops at many points. Each is refused with the file, and the same command goes on."""

    recipe: Path
    finished: Path
    run: Path
    cache: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    points: int = 0

    def keeptune(self, prepare: Callable[[], object] = lambda: None, **options: Any) -> Ended:
        """The end of the command, which has a cache of its own."""

        def prepare_all() -> None:
            os.environ["KEEPTUNE_CACHE"] = str(self.cache)
            prepare()

        return keeptune("run", self.recipe, "--run", self.run, watched=self.run, prepare=prepare_all, **options)

    def begin(self, is_trained: bool = False) -> None:
        """An empty run, or one as it is after training."""
        for folder in (self.run, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
        if is_trained:
            without_later_stages(self.finished, self.run)

    def check(self, stopped: Ended, repair: Callable[[], bool] = lambda: True) -> None:
        """Checks the end of a command on a bad disk, then repairs the disk and repeats the command."""
        assert "Traceback" not in stopped.text, stopped.text
        assert stopped.code in (REFUSED, *COMPLETE), stopped.text
        if stopped.code == REFUSED:
            assert "cannot be written (" in " ".join(stopped.text.split()), stopped.text
        self.outcomes["refused" if stopped.code == REFUSED else "had room"] += 1
        assert repair()
        resumed = self.keeptune()
        assert resumed.code in COMPLETE, resumed.text
        assert_same_bytes(self.run, self.finished)
        self.points += 1

    def figures(self) -> dict[str, int]:
        return {"points": self.points, **self.outcomes, "resumed_to_the_same_bytes": self.points}


@pytest.fixture
def campaign(recipe: Path, finished: Path, tmp_path: Path) -> Campaign:
    return Campaign(recipe, finished, tmp_path / "run", tmp_path / "cache")


@pytest.mark.slow
def test_files_that_get_too_large(points: Any, record: Any, campaign: Campaign) -> None:
    """Half of the points begin after training, because training writes the largest files."""
    draw = random.Random(2)
    for number in range(points(6)):
        campaign.begin(is_trained=number % 2 == 1)
        limit = limit_files(log_uniform(draw, 50, 300_000), is_fatal=False)
        campaign.check(campaign.keeptune(prepare=limit))
    record(**campaign.figures())


@pytest.mark.slow
def test_a_disk_without_space(points: Any, record: Any, campaign: Campaign, disk: Path) -> None:
    draw, campaign.run = random.Random(3), disk / "run"
    for number in range(points(6)):
        campaign.begin(is_trained=number % 2 == 1)
        used = shutil.disk_usage(disk).used // 1024
        assert mount(disk, f"remount,size={used + log_uniform(draw, 4, 1_000)}k")
        campaign.check(campaign.keeptune(), repair=lambda: mount(disk, "remount,size=40m"))
    record(**campaign.figures())


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(points: Any, record: Any, campaign: Campaign, disk: Path) -> None:
    draw, campaign.run = random.Random(4), disk / "run"
    changes = campaign.keeptune().changes
    for _ in range(points(4)):
        campaign.begin()
        first = draw.randint(1, changes)

        def lock(number: int, first: int = first) -> None:
            if first <= number < first + 20:  # busy while a file is open for writing
                mount(disk, "remount,ro")

        campaign.check(campaign.keeptune(at_change=lock), repair=lambda: mount(disk, "remount,rw"))
    record(**campaign.figures())
