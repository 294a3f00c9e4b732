"""Texts of rows and models reach the terminal without control characters (F14)."""

import json

import pytest
from rich.console import Console

from keeptune.cli import _print_error
from keeptune.cli.console import ConsoleReporter
from keeptune.cli.options import json_text
from keeptune.cli.terminal import show

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x08\r\x7f\x9b31m\u202eb [/bold] [red]甲\tc"
ACTIVE = "\x1b\x07\x08\r\x7f\x9b\u202e"


def test_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    show(HOSTILE)
    _print_error(HOSTILE)
    for text in capsys.readouterr():
        assert not set(text) & set(ACTIVE)
        assert r"a\x1b[2J" in text and "[red]甲\tc\n" in text


def test_json_keeps_its_value() -> None:
    text = json_text({"output": HOSTILE})
    assert not set(text) & set(ACTIVE)
    assert json.loads(text) == {"output": HOSTILE}


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress(capsys: pytest.CaptureFixture[str], is_terminal: bool) -> None:
    reporter = ConsoleReporter()
    reporter.console = Console(stderr=True, highlight=False, force_terminal=is_terminal, width=400, color_system=None)
    reporter.stage(HOSTILE)
    reporter.info(HOSTILE)
    reporter.counter(HOSTILE, 2)(1)
    reporter.step(1, 2, HOSTILE)
    reporter.step(2, 2, HOSTILE)
    text = capsys.readouterr().err
    assert text.count(r"a\x1b[2J") >= 4
    assert "\x1b[2J" not in text and "\x1b]0" not in text and not set(text) & set("\x07\x08\x9b\u202e")
