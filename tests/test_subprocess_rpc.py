"""A process of another Python answers line by line, and is told of by its last words where it ends too early."""

import sys
from pathlib import Path

import pytest

from keeptune.errors import ModelError
from keeptune.subprocess_rpc import Ending, OtherPython, has_package

ENDING = Ending("Parrot", ", for it took too much memory", ModelError)
ECHO = """
import json, os, sys
answers = os.fdopen(int(sys.argv[1]), "w")
for line in sys.stdin:
    asked = json.loads(line)
    print("asked", asked, flush=True)
    if asked == "die":
        sys.exit("no more seeds")
    if asked == "kill":
        os.kill(os.getpid(), 9)
    print(json.dumps([asked, os.environ["SEEDS"]]), file=answers, flush=True)
"""


def parrot(folder: Path) -> OtherPython:
    return OtherPython.start([sys.executable, "-c", ECHO], folder / "log", {"SEEDS": "3"}, ENDING)


def test_lines_go_in_and_come_out(tmp_path: Path) -> None:
    own = parrot(tmp_path)
    for asked in ({"a": [1, "ä"]}, None):
        own.tell(asked)
        assert own.answer() == [asked, "3"]
    assert own.end() == 0
    assert "asked {'a': [1, 'ä']}" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "told"),
    [("die", "Parrot ended with code 1; its last words:\nasked die\nno more seeds"), ("kill", "memory")],
)
def test_one_that_ends_too_early_is_told_of(tmp_path: Path, asked: str, told: str) -> None:
    own = parrot(tmp_path)
    own.tell(asked)
    with pytest.raises(ModelError, match=told):
        own.answer()
    own.tell("still there?")
    assert own.end() != 0


def test_whether_a_python_has_a_package() -> None:
    assert has_package(Path(sys.executable), "torch")
    assert not has_package(Path(sys.executable), "no_such_package")
    assert not has_package(Path("/nowhere/python"), "torch")
