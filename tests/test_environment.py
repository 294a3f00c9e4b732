"""The manifest of a run, also outside a git checkout and without git."""

import json
import os
from importlib import metadata
from pathlib import Path

import pytest

from keeptune import environment
from keeptune.environment import PACKAGES, git_state, manifest


def test_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/keeptune", "run", "a.yaml"])
    record = manifest({"data": "abc"}, seed=7)
    assert json.loads(json.dumps(record)) == record
    assert record["hashes"] == {"data": "abc"}
    assert (record["seed"], record["command"]) == (7, "keeptune run a.yaml")
    assert record["packages"] == {name: metadata.version(name) for name in PACKAGES}
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["memory_bytes"] > 2**20
    assert record["started"].endswith("+00:00")


def test_no_commit_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "missing") is None


def test_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert git_state(Path(environment.__file__).parent) is None
