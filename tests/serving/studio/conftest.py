"""Folders of finished runs with hostile texts, and the studio over them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report.conftest import write_run

from keeptune.report.page import write_report

pytest.importorskip("fastapi", reason="pip install 'keeptune[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'keeptune[serve]'")

from serving.studio.client import Client, client_of

RUN, OTHER = "demo", "sweep/trial-1"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs, one of them below a further folder; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("studio") / "runs"
    for run in (RUN, OTHER):
        write_run(folder / run, policy="suite", with_suite=True)
        write_report(folder / run)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of the two runs."""
    return Path(shutil.copytree(written, tmp_path / "runs"))


@pytest.fixture(scope="module")
def studio(written: Path) -> Iterator[Client]:
    """The studio over the two runs, for tests that change nothing."""
    with client_of(written) as client:
        yield client


@pytest.fixture(scope="session")
def playable(written: Path, tuned_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two runs, of which the first has the adapter of a tiny model."""
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("playable") / "runs"))
    adapter = Path(shutil.copytree(tuned_folder("lora"), folder / RUN / "adapter"))
    chosen = {"checkpoint": "step-40", "scale": 0.8, "candidates": []}
    (adapter / "chosen.json").write_text(json.dumps(chosen), encoding="utf-8")
    return folder
