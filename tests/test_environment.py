"""The manifest of a run, also outside a git checkout and without git."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from keeptune import environment
from keeptune.environment import PACKAGES, SPIN_COUNT, git_state, limit_spinning, manifest


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


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"OMP_WAIT_POLICY": "passive"}, None),
    ],
)
def test_waiting_threads_sleep_early_unless_the_user_chose(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = dict(given)
    monkeypatch.setattr(os, "environ", variables)
    limit_spinning()
    assert variables.get("GOMP_SPINCOUNT") == spins


def test_the_command_sets_it_before_torch_is_imported() -> None:
    """OpenMP reads its settings once, when torch is imported."""
    script = "import sys; import keeptune.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
