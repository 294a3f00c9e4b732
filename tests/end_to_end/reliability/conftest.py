"""Campaigns: many points of one kind of fault. `make reliability` runs as many as it is told and stores the figures."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":  # they fork, and count memory in /proc
    collect_ignore_glob = ["test_*.py"]

POINTS, RESULTS = "KEEPTUNE_RELIABILITY_POINTS", "KEEPTUNE_RELIABILITY_RESULTS"
"""Environment variables: the number of points of each campaign, and the JSON file for the figures."""


@pytest.fixture
def points() -> Callable[[int], int]:
    """The number of points of a campaign, given the number in the default test suite."""
    return lambda default: int(os.environ.get(POINTS) or default)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Stores the figures of the campaign that the test is."""

    def store(**figures: Any) -> None:
        if RESULTS not in os.environ:
            return
        path = Path(os.environ[RESULTS])
        tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        tree[request.node.name] = figures
        path.write_text(json.dumps(dict(sorted(tree.items())), indent=1) + "\n", encoding="utf-8")

    return store
