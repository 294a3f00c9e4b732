"""What all tests share: no network, one thread, and one tiny model on disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Read when torch and huggingface_hub are imported, in this process and in those that tests start, so set before any
# other conftest imports them. On so small a model a second thread has nothing to do but to wait, by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure() -> None:
    # A loaded machine is slow, not wrong.
    settings.register_profile("keeptune", deadline=None)
    settings.load_profile("keeptune")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers saves it; tests read it and never write to it."""
    # Imported here, because most tests need no torch and are over before it is loaded.
    import tiny

    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Of a Ray cluster: a head and a second node on this machine, one processor each."""
    from ray.cluster_utils import Cluster as LocalCluster

    cluster: Any = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()
