"""The log of a run: what a stage took is what its own process took."""

import subprocess
import sys

import pytest

from keeptune.event_log import peak_memory_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a parent's peak on")
def test_the_peak_of_the_parent_is_not_counted() -> None:
    """Found by CI on 2026-11-29: a small run that the tests had started "took" 2.3 GB, which was what they held."""
    held = bytearray(b"x" * 600_000_000)
    told = subprocess.run(
        [sys.executable, "-c", "from keeptune.event_log import peak_memory_bytes; print(peak_memory_bytes())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 5_000_000 < int(told.stdout) < 300_000_000
    assert peak_memory_bytes() > len(held)
