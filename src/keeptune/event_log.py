"""log.jsonl: what a run did, in order, and what it took. Training adds its steps and scores to the same file."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keeptune.errors import RunError
from keeptune.files import append_line, read_records

Record = dict[str, Any]

STATUS = Path("/proc/self/status")
"""What Linux tells of this process."""


def peak_memory_bytes() -> int:
    """The most memory that this process has held, in bytes. Linux counts what getrusage reports from before the program
    began: the peak of the process that started it is in there too."""
    if STATUS.is_file():
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Journal:
    """The log of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self) -> list[Record]:
        """All that was logged. errors: RunError when the file is damaged."""
        return read_records(self.path) if self.path.is_file() else []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Logs how long a stage took and how much memory the process had needed by its end, also if it failed."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            with suppress(RunError):  # what ended the stage is what is to be told
                self._add(name, started)
            raise
        self._add(name, started)

    def _add(self, name: str, started: float) -> None:
        event = {"event": "stage", "stage": name, "seconds": time.perf_counter() - started}
        event["peak_memory_bytes"] = peak_memory_bytes()
        self.log(event)

    def log(self, event: Record) -> None:
        """Adds what happened."""
        append_line(self.path, json.dumps(event, ensure_ascii=False))

    def cost(self) -> Record:
        """Time by stage, useful tokens and their speed, and the most memory: `cost` in result.json."""
        events = self.events()
        stages: dict[str, float] = {}
        for event in events:
            if event["event"] == "stage":
                stages[event["stage"]] = stages.get(event["stage"], 0.0) + event["seconds"]
        trained = [event for event in events if event["event"] == "train"]
        tokens, seconds = (trained[-1]["tokens"], trained[-1]["seconds"]) if trained else (0, 0.0)
        return {
            "seconds": sum(stages.values()),
            "seconds_by_stage": stages,
            "tokens_useful": tokens,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
            "peak_memory_bytes": max((e["peak_memory_bytes"] for e in events if e["event"] == "stage"), default=0),
        }
