"""The facts of a run are there, and looking for them cannot stop a run."""

import json
import os
from importlib import metadata
from pathlib import Path

import pytest

from keeptune import environment as manifests
from keeptune.environment import PACKAGES, git_state, manifest


def test_the_facts_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/keeptune", "run", "a.yaml"])
    made = manifest({"data": "abc"}, seed=7)
    assert json.loads(json.dumps(made)) == made
    assert made["hashes"] == {"data": "abc"}
    assert (made["seed"], made["command"]) == (7, "keeptune run a.yaml")
    assert made["packages"] == {name: metadata.version(name) for name in PACKAGES}
    assert made["hardware"]["cores"] >= 1
    assert made["hardware"]["memory_bytes"] > 2**20
    assert made["started"].endswith("+00:00")


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "missing") is None


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert git_state(Path(manifests.__file__).parent) is None
