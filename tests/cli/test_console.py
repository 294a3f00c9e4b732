"""What the progress of long work looks like where the output is no terminal."""

import pytest

from keeptune.cli import console
from keeptune.cli.console import LINE_SECONDS, ConsoleReporter


def test_a_counter_prints_a_line_now_and_then_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    count = ConsoleReporter().counter("base: [red]\x1b", 10)
    for second in range(10):
        clock[0] = second * LINE_SECONDS / 4
        count(1)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines == ["base: [red]\\x1b 5/10", "base: [red]\\x1b 9/10"]
