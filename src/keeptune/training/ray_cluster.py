"""A command that trains, on several workers of a Ray cluster at once, as a Ray Train job.

Ray finds the places, joins the workers and shows here what they print. Each worker starts the command as a process of
its own, with what torchrun would have told it. So nothing else in training knows of Ray, and exit codes and what a
stopped run goes on from are those of any other launcher.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from keeptune.data.workers import RayExecutor
from keeptune.errors import RunError
from keeptune.files import read_json, write_json

PATIENCE = timedelta(days=30)
"""How long the workers wait for the one that takes longest."""


def on_cluster(address: str, workers: int, arguments: Sequence[str], scratch: Path) -> int:
    """The first exit code of `keeptune ARGUMENTS` on so many workers that is not 0, or 0.

    All nodes must see the files that the command names under the same path. Ray keeps its notes in `scratch`.

    errors: RunError when the cluster does not answer, has too few places, or fails.
    """
    cluster = RayExecutor(address, show_output=True)
    try:
        resources = cluster.ray.cluster_resources()
        places = "GPU" if resources.get("GPU") else "CPU"
        if (there := int(resources.get(places, 0))) < workers:
            raise RunError(f"--workers {workers}: the cluster has {there} × {places}; give no more than that")
        return _fit(workers, places == "GPU", arguments, scratch)
    finally:
        cluster.close()


def _fit(workers: int, use_gpu: bool, arguments: Sequence[str], scratch: Path) -> int:
    told = scratch.absolute() / "exit-codes.json"
    told.unlink(missing_ok=True)
    train, torch_train = (importlib.import_module(name) for name in ("ray.train", "ray.train.torch"))
    trainer = torch_train.TorchTrainer(
        _command,
        train_loop_config={"arguments": list(arguments), "told": str(told)},
        # Its own group only tells the workers where to meet, and who has ended how.
        torch_config=torch_train.TorchConfig(backend="gloo", timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=train.RunConfig(name="ray", storage_path=str(scratch.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray has no class of errors for all that can happen
        raise RunError(f"the Ray cluster could not train ({error}); see the cluster's own logs") from None
    return next((int(code) for code in read_json(told) if code), 0)


def _command(given: dict[str, Any]) -> None:
    """What a worker does: the command, which meets its like at a port that the first worker found."""
    from torch import distributed

    port = [_free_port()]
    distributed.broadcast_object_list(port, src=0)
    environment = {**os.environ, "MASTER_PORT": str(port[0])}
    code = subprocess.run(
        [sys.executable, "-m", "keeptune", *given["arguments"]], env=environment, check=False
    ).returncode
    codes = [0] * distributed.get_world_size()
    distributed.all_gather_object(codes, code)
    if distributed.get_rank() == 0:
        write_json(Path(given["told"]), codes)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])
