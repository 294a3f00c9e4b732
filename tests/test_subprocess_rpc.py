"""A worker in another Python answers line by line. If it exits too early, the error has the end of its log."""

import sys
from pathlib import Path

import pytest

from keeptune.errors import ModelError
from keeptune.subprocess_rpc import ExitError, JsonLinesSubprocess, has_package

EXIT_ERROR = ExitError("Parrot", "it probably ran out of memory", ModelError)
ECHO = """
import json, os, sys
answers = os.fdopen(int(sys.argv[1]), "w")
for line in sys.stdin:
    request = json.loads(line)
    print("request", request, flush=True)
    if request == "die":
        sys.exit("no more seeds")
    if request == "kill":
        os.kill(os.getpid(), 9)
    print(json.dumps([request, os.environ["SEEDS"]]), file=answers, flush=True)
"""


def parrot(folder: Path) -> JsonLinesSubprocess:
    return JsonLinesSubprocess.start([sys.executable, "-c", ECHO], folder / "log", {"SEEDS": "3"}, EXIT_ERROR)


def test_a_worker_answers_each_request(tmp_path: Path) -> None:
    worker = parrot(tmp_path)
    for request in ({"a": [1, "ä"]}, None):
        worker.send(request)
        assert worker.receive() == [request, "3"]
    assert worker.close() == 0
    assert "request {'a': [1, 'ä']}" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "parts"),
    [("die", ["Parrot", "code 1", "request die\nno more seeds"]), ("kill", ["Parrot", "code -9", "memory"])],
)
def test_a_worker_that_exits_too_early_raises(tmp_path: Path, command: str, parts: list[str]) -> None:
    worker = parrot(tmp_path)
    worker.send(command)
    with pytest.raises(ModelError) as caught:
        worker.receive()
    assert all(part in str(caught.value) for part in parts)
    worker.send("still there?")
    assert worker.close() != 0


def test_has_package() -> None:
    assert has_package(Path(sys.executable), "torch")
    assert not has_package(Path(sys.executable), "no_such_package")
    assert not has_package(Path("/nowhere/python"), "torch")
