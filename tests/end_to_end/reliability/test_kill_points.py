"""kill -9 at any point of a command: the same command then ends in the same bytes."""

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import assert_same_bytes, files
from end_to_end.reliability.forked import Ended, keeptune, kill_at, limit_files, log_uniform

Check = Callable[[Path], None]

ENDED = {0, 4, 6}
"""Exit codes of a complete command: success, and two verdicts."""


def interrupt(draw: random.Random, whole: Ended, *arguments: object, folder: Path, cache: Path) -> Ended:
    """A command that is killed before a change, at any time, or in the middle of writing a file."""

    def own_cache() -> None:
        os.environ["KEEPTUNE_CACHE"] = str(cache)

    way = draw.choice(("change", "change", "time", "write"))
    if way == "change":
        change = draw.randint(1, whole.changes)
        return keeptune(*arguments, watched=folder, prepare=own_cache, at_change=kill_at(change))
    if way == "time":
        seconds = draw.uniform(0, whole.seconds)
        return keeptune(*arguments, watched=folder, prepare=own_cache, kill_after_seconds=seconds)
    limit = limit_files(log_uniform(draw, 20, 200_000), is_fatal=True)
    return keeptune(*arguments, watched=folder, prepare=lambda: (own_cache(), limit()))


def campaign(
    count: int, arguments: Callable[[Path], list[object]], start: Callable[[Path], object], check: Check, tmp_path: Path
) -> dict[str, Any]:
    """Kills a command at so many points, and runs it again each time.

    Args:
        count: the number of points.
        arguments: the command for an output folder.
        start: brings the output folder into its first state.
        check: fails if the output folder is not as after an uninterrupted command.
        tmp_path: for all files.
    """
    outcomes: Counter[str] = Counter()
    folder, cache, draw = tmp_path / "out", tmp_path / "caches", random.Random(count)

    def again(number: int) -> Callable[[], None]:
        return lambda: os.environ.update(KEEPTUNE_CACHE=str(cache / str(number)))

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        start(folder)

    fresh()
    whole = keeptune(*arguments(folder), watched=folder, prepare=again(0))
    assert whole.code in ENDED, whole.text
    check(folder)
    for number in range(1, count + 1):
        fresh()
        stopped = interrupt(draw, whole, *arguments(folder), folder=folder, cache=cache / str(number))
        assert stopped.code in (-signal.SIGKILL, -signal.SIGXFSZ, *ENDED), stopped.text
        outcomes["killed" if stopped.code < 0 else "ended before"] += 1
        resumed = keeptune(*arguments(folder), watched=folder, prepare=again(number))
        assert resumed.code == whole.code, f"point {number}: {resumed.text}"
        check(folder)
        left = [path for path in folder.rglob("*") if ".tmp-" in path.name or path.name == ".lock"]
        assert not left, f"point {number}: {left}"
        shutil.rmtree(cache / str(number), ignore_errors=True)
    return {"points": count, "changes": whole.changes, **outcomes, "resumed_to_the_same_bytes": count}


def test_score_and_report_stages(points: Any, record: Any, recipe: Path, finished: Path, tmp_path: Path) -> None:
    def start(folder: Path) -> None:
        shutil.copytree(finished, folder)
        shutil.rmtree(folder / "scores")
        for name in ("result.json", "report.html", "report.md", "SHA256SUMS"):
            (folder / name).unlink()

    def check(folder: Path) -> None:
        assert_same_bytes(folder, finished)

    record(**campaign(points(1), lambda folder: ["run", recipe, "--run", folder], start, check, tmp_path))


@pytest.mark.slow
def test_whole_run(points: Any, record: Any, recipe: Path, finished: Path, tmp_path: Path) -> None:
    def check(folder: Path) -> None:
        assert_same_bytes(folder, finished)

    record(**campaign(points(8), lambda folder: ["run", recipe, "--run", folder], lambda _: None, check, tmp_path))


@pytest.mark.slow
def test_score(points: Any, record: Any, finished: Path, corpus: Path, squad: Path, tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}

    def check(folder: Path) -> None:
        seen.update(seen or files(folder))
        assert seen == files(folder) and len(seen) == 2

    def command(folder: Path) -> list[object]:
        return ["score", finished, "--skill", corpus, "--limit", 60, "--retained", squad, "--out", folder]

    record(**campaign(points(4), command, lambda _: None, check, tmp_path))


@pytest.mark.slow
def test_gate(points: Any, record: Any, finished: Path, model_folder: Path, tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}

    def check(folder: Path) -> None:
        stable = {name: content for name, content in files(folder).items() if name.endswith(".jsonl")}
        seen.update(seen or stable)
        assert seen == stable and len(seen) > 4

    def command(folder: Path) -> list[object]:
        names = "refusal,grammar,reading-en"
        gate = ["gate", "--base", model_folder, "--tuned", finished, "--abilities", names, "--suite", "quick"]
        return [*gate, "--out", folder]

    record(**campaign(points(2), command, lambda _: None, check, tmp_path))
