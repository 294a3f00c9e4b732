"""SIGTERM at any point of a run: exit code 5 and one sentence, and the same command goes on to the same bytes."""

import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import assert_same_bytes
from end_to_end.reliability.forked import keeptune, send_at

INTERRUPTED = 5


@pytest.mark.slow
def test_terminated_runs(points: Any, record: Any, recipe: Path, finished: Path, tmp_path: Path) -> None:
    count, run, draw = points(6), tmp_path / "run", random.Random(1)

    def own_cache() -> None:
        os.environ["KEEPTUNE_CACHE"] = str(tmp_path / "cache")

    arguments = ["run", recipe, "--run", run]
    whole = keeptune(*arguments, watched=run, prepare=own_cache)
    outcomes: Counter[str] = Counter()
    for number in range(1, count + 1):
        for folder in (run, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        # Evenly over the run, so that every stage gets its share.
        change = 1 + (number * whole.changes // (count + 1) + draw.randrange(3)) % whole.changes
        signal_number = draw.choice((signal.SIGTERM, signal.SIGINT))
        stopped = keeptune(*arguments, watched=run, prepare=own_cache, at_change=send_at(change, signal_number))
        assert stopped.code in (INTERRUPTED, whole.code), f"change {change}: {stopped.text}"
        assert "Traceback" not in stopped.text, f"change {change}: {stopped.text}"
        if stopped.code == INTERRUPTED:
            assert "run the same command again" in " ".join(stopped.text.split()), stopped.text
        outcomes["interrupted" if stopped.code == INTERRUPTED else "ended before"] += 1
        resumed = keeptune(*arguments, watched=run, prepare=own_cache)
        assert resumed.code == whole.code, f"change {change}: {resumed.text}"
        assert_same_bytes(run, finished)
    record(points=count, changes=whole.changes, **outcomes, resumed_to_the_same_bytes=count)
