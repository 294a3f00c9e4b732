"""Writes and reads log.jsonl: what a run did, in order, and the time and memory that each stage took.

Training adds its steps and scores to the same file.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keeptune.errors import RunError
from keeptune.files import Record, append_line, parse_record, read_regular_bytes
from keeptune.run_files.events import SCHEMAS, Event

STATUS = Path("/proc/self/status")
"""Linux's status of this process."""


def peak_memory_bytes() -> int:
    """The peak resident memory of this process in bytes, or 0 where the system does not report it.

    Linux's getrusage includes the peak of the parent process before the program started, so /proc is read first.
    `ru_maxrss` is in kibibytes, but in bytes on macOS.
    """
    if STATUS.is_file():
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak_usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_usage if sys.platform == "darwin" else peak_usage * 1024


class EventLog:
    """The log of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self) -> list[Record]:
        """All events, or none if the file does not exist. A last line that was not written to its end is left out.

        Raises:
            RunError: when the file is damaged.
        """
        if not self.path.is_file():
            return []
        events = []
        for number, line in enumerate(self._complete_lines().decode(errors="replace").split("\n"), start=1):
            if line:
                events.append(parse_record(f"{self.path}:{number}", line, Event))
                if schema := SCHEMAS.get(events[-1]["event"]):
                    parse_record(f"{self.path}:{number}", line, schema)
        return events

    def _complete_lines(self) -> bytes:
        """The content of the file to its last line end."""
        try:
            content = read_regular_bytes(self.path)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from None
        return content[: content.rfind(b"\n") + 1]

    def cut_torn_line(self) -> None:
        """Removes a last line that a killed process, or a full disk, left without its end."""
        if self.path.is_file() and self.path.stat().st_size > (size := len(self._complete_lines())):
            os.truncate(self.path, size)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Logs a stage's duration and the process's peak memory at its end, also if the stage fails."""
        self.cut_torn_line()
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            with suppress(RunError):  # the stage's own error is the one to report
                self._add(name, started)
            raise
        self._add(name, started)

    def _add(self, name: str, started: float) -> None:
        event = {"event": "stage", "stage": name, "seconds": time.perf_counter() - started}
        event["peak_memory_bytes"] = peak_memory_bytes()
        self.log(event)

    def log(self, event: Record) -> None:
        """Appends an event."""
        append_line(self.path, json.dumps(event, ensure_ascii=False))

    def cost(self) -> Record:
        """`cost` in result.json: seconds per stage, non-padding tokens, tokens per second, and peak memory."""
        events = self.events()
        stages: dict[str, float] = {}
        for event in events:
            if event["event"] == "stage":
                stages[event["stage"]] = stages.get(event["stage"], 0.0) + event["seconds"]
        trained = [event for event in events if event["event"] == "train"]
        tokens, seconds = (trained[-1].get("tokens", 0), trained[-1].get("seconds", 0.0)) if trained else (0, 0.0)
        return {
            "seconds": sum(stages.values()),
            "seconds_by_stage": stages,
            "tokens_useful": tokens,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
            "peak_memory_bytes": max(
                (e.get("peak_memory_bytes", 0) for e in events if e["event"] == "stage"), default=0
            ),
        }
