"""The log of a run: memory is that of its own process, in bytes."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from keeptune import event_log
from keeptune.event_log import peak_memory_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux passes the parent's peak on")
def test_peak_of_the_parent_is_not_counted() -> None:
    """Found by CI on 2026-11-29: a small run reported 2.3 GB, the peak of the test process that started it."""
    block = bytearray(b"x" * 600_000_000)
    child = subprocess.run(
        [sys.executable, "-c", "from keeptune.event_log import peak_memory_bytes; print(peak_memory_bytes())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 5_000_000 < int(child.stdout) < 300_000_000
    assert peak_memory_bytes() > len(block)


@pytest.mark.parametrize(("platform", "unit_bytes"), [("darwin", 1), ("linux", 1024)])
def test_peak_is_in_bytes_without_proc(
    platform: str, unit_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getrusage counts bytes on macOS and kibibytes elsewhere."""
    monkeypatch.setattr(event_log, "STATUS", tmp_path / "missing")
    monkeypatch.setattr("sys.platform", platform)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_memory_bytes() == pytest.approx(peak * unit_bytes, rel=0.1)
