"""Training on several workers of a Ray cluster, as a Ray Train job.

Ray allocates the workers, connects them and shows their output. Each worker runs the command as a process, with the
environment variables that torchrun would set. So no other module depends on Ray, and exit codes and resuming work as
with any other launcher.
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

TIMEOUT = timedelta(days=30)
"""How long the workers wait for the slowest one."""


def run_on_cluster(address: str, workers: int, arguments: Sequence[str], scratch: Path) -> int:
    """Runs `keeptune ARGUMENTS` on each of `workers` workers and returns the first exit code that is not 0, or 0.

    All nodes must see the files that the command names under the same path.

    Args:
        address: the address of the Ray cluster.
        workers: the number of workers.
        arguments: the arguments of the keeptune command.
        scratch: a folder for Ray's own files.

    Raises:
        RunError: if the cluster does not answer, has too few workers, or fails.
    """
    cluster = RayExecutor(address, show_output=True)
    try:
        resources = cluster.ray.cluster_resources()
        resource = "GPU" if resources.get("GPU") else "CPU"
        if (available := int(resources.get(resource, 0))) < workers:
            raise RunError(f"--workers {workers}: the cluster has {available} × {resource}; request at most that many")
        return _fit(workers, resource == "GPU", arguments, scratch)
    finally:
        cluster.close()


def _fit(workers: int, use_gpu: bool, arguments: Sequence[str], scratch: Path) -> int:
    exit_codes = scratch.absolute() / "exit-codes.json"
    exit_codes.unlink(missing_ok=True)
    train, torch_train = (importlib.import_module(name) for name in ("ray.train", "ray.train.torch"))
    trainer = torch_train.TorchTrainer(
        _run_command,
        train_loop_config={"arguments": list(arguments), "exit_codes": str(exit_codes)},
        # Ray's own process group only exchanges the port and the exit codes.
        torch_config=torch_train.TorchConfig(backend="gloo", timeout_s=int(TIMEOUT.total_seconds())),
        scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=train.RunConfig(name="ray", storage_path=str(scratch.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray has no common base class for its errors
        raise RunError(f"training on the Ray cluster failed ({error}); see the logs of the cluster") from None
    return next((int(code) for code in read_json(exit_codes)["exit_codes"] if code), 0)


def _run_command(config: dict[str, Any]) -> None:
    """The work of one worker: runs the command. All commands connect at a port that is free on rank 0's node."""
    from torch import distributed

    port = [_free_port()]
    distributed.broadcast_object_list(port, src=0)
    environment = {**os.environ, "MASTER_PORT": str(port[0])}
    command = [sys.executable, "-m", "keeptune", *config["arguments"]]
    code = subprocess.run(command, env=environment, check=False).returncode
    codes = [0] * distributed.get_world_size()
    distributed.all_gather_object(codes, code)
    if distributed.get_rank() == 0:
        write_json(Path(config["exit_codes"]), {"exit_codes": codes})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
