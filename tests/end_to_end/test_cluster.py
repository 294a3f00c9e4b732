"""A run whose later stages are a Ray Train job comes to what one process comes to. Runs where Ray is installed."""

from pathlib import Path

import pytest
from end_to_end.command import ok, refused
from end_to_end.test_processes import assert_same_but_for_rounding

pytest.importorskip("ray", reason="Ray is not installed (pip install 'keeptune[cluster]')")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_two_workers_do_the_job_of_one_process(ray_address: str, recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = ok("run", recipe, "--run", run, "--cluster", ray_address, "--workers", "2")
    assert "verdict" in said.out
    assert_same_but_for_rounding(run, finished)


def test_more_workers_than_places_are_refused(ray_address: str, recipe: Path, tmp_path: Path) -> None:
    said = refused(2, "run", recipe, "--run", tmp_path / "run", "--cluster", ray_address, "--workers", "3")
    assert "--workers 3" in said and "2 × CPU" in said


def test_workers_without_a_cluster_are_refused(recipe: Path, tmp_path: Path) -> None:
    said = refused(2, "run", recipe, "--run", tmp_path / "run", "--workers", "2")
    assert "--cluster HOST:PORT" in said
