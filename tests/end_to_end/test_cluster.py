"""A run whose later stages are a Ray Train job comes to what one process comes to. Runs where Ray is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.command import files, ok, refused
from end_to_end.test_processes import events, figures
from safetensors.torch import load

pytest.importorskip("ray", reason="Ray is not installed (pip install 'keeptune[cluster]')")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head and a second node on this machine, one processor each."""
    from ray.cluster_utils import Cluster as LocalCluster

    cluster: Any = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def test_two_workers_do_the_job_of_one_process(address: str, recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = ok("run", recipe, "--run", run, "--cluster", address, "--workers", "2")
    assert "verdict" in said.out
    own, its = files(run), files(finished)
    assert own.keys() == its.keys()
    assert all(own[name] == its[name] for name in its if name.startswith("data/"))
    assert events(run) == events(finished)
    adapter, its_adapter = (load(made["adapter/adapter_model.safetensors"]) for made in (own, its))
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, its_adapter[name], atol=1e-5, rtol=1e-5)
    assert figures(run) == figures(finished)


def test_more_workers_than_places_are_refused(address: str, recipe: Path, tmp_path: Path) -> None:
    said = refused(2, "run", recipe, "--run", tmp_path / "run", "--cluster", address, "--workers", "3")
    assert "--workers 3: the cluster has 2 × CPU; give no more than that" in said


def test_workers_without_a_cluster_are_refused(recipe: Path, tmp_path: Path) -> None:
    said = refused(2, "run", recipe, "--run", tmp_path / "run", "--workers", "2")
    assert "give its --cluster HOST:PORT, or use torchrun" in said
