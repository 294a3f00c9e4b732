"""The command's help: fast to start, and an example for each verb."""

import subprocess
import sys
from importlib import metadata

import pytest
from end_to_end.command import ok

from keeptune.cli import VERBS, main


def test_help_lists_all_verbs() -> None:
    output = ok("--help").out
    assert all(f" {verb} " in output for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example(verb: str) -> None:
    _, example = VERBS[verb]
    assert example.startswith(f"keeptune {verb} ")
    assert f"Example: keeptune {verb}" in ok(verb, "--help").out


def test_windows_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "WSL" in message and message.count("\n") == 1


def test_version() -> None:
    assert ok("--version").out == f"keeptune {metadata.version('keeptune')}\n"


def test_help_imports_no_heavy_packages() -> None:
    code = (
        "import sys; sys.argv = ['keeptune', '--help']\n"
        "from keeptune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
