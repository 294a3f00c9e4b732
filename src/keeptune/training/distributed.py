"""The processes that train together: one process, or all those that a launcher such as torchrun started.

There are two channels. Gradients travel between accelerators. Everything else (how a step went, whether to stop)
travels between CPUs through gloo, where one process may wait for another as long as an evaluation takes.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from keeptune.errors import RunError
from keeptune.models.load import device
from keeptune.models.out_of_memory import is_out_of_memory

TIMEOUT = timedelta(days=1)
"""How long one process may work alone, on data or on an evaluation, while the others wait."""

ACCELERATOR_TIMEOUT = timedelta(minutes=5)
"""How long accelerators wait for each other. They exchange tensors only right after a message between the processors,
so a longer wait means that another process has ended."""

Value = TypeVar("Value")


def local_device_index() -> int:
    """The accelerator of this process. A launcher shows a process all accelerators of its machine, or only one."""
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count()


class DistributedContext:
    """The rank of this process and its collective operations. With one process, no operation communicates.

    torchrun, accelerate and other launchers set the environment variables that it reads.

    Attributes:
        world_size: the number of processes.
        rank: the number of this process, from 0.
        local_world_size: the number of processes that share the CPU and the memory of this machine.
    """

    def __init__(self) -> None:
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.world_size > 1 else 0
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.world_size > 1 else 1
        self._cpu_group: Any = None
        if self.world_size > 1:
            self._join()

    def _join(self) -> None:
        accelerator = device()
        backend = dist.get_default_backend_for_device(accelerator)
        options: dict[str, Any] = {}
        if accelerator.type != "cpu":
            torch.accelerator.set_device_index(local_device_index())
            options["timeout"] = ACCELERATOR_TIMEOUT
        if accelerator.type == "cuda":
            # NCCL connects at once, and to this card; else it would guess the card from the rank.
            options["device_id"] = torch.device("cuda", local_device_index())
        try:
            dist.init_process_group(backend, **options)
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"RANK={self.rank}, WORLD_SIZE={self.world_size}: cannot connect to the other processes ({error}); "
                "start all processes with torchrun, or unset WORLD_SIZE to train with one process"
            ) from None
        atexit.register(dist.destroy_process_group)
        self._cpu_group = dist.new_group(backend="gloo", timeout=TIMEOUT)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only process that writes files and prints."""
        return self.rank == 0

    def all_gather(self, value: Value) -> list[Value]:
        """The values of all processes, in order of rank; the same list in each process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _connection_errors():
            dist.all_gather_object(values, value, group=self._cpu_group)
        return values

    def barrier(self) -> None:
        """Waits until every process has reached this call."""
        self.all_gather(None)

    def run_on_main(self, work: Callable[[], None]) -> None:
        """Runs `work` in rank 0 while the other processes wait."""
        if self.is_main:
            work()
        self.barrier()

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces the gradients of each process by their sum over all processes. A missing gradient counts as zero."""
        if self.world_size == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        with _connection_errors():
            dist.all_reduce(flat)
        sums = flat.split([parameter.numel() for parameter in parameters])
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total.view_as(parameter)

    def broadcast_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites the tensors of every process with those of rank 0."""
        if self.world_size > 1:
            with _connection_errors():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    def device_mesh(self) -> DeviceMesh:
        """A one-dimensional mesh of all processes, over which a model can be sharded."""
        return init_device_mesh(device().type, (self.world_size,))


@cache
def distributed_context() -> DistributedContext:
    """The context of this process. It connects to the other processes once; each call returns the same object.

    Raises:
        RunError: if the launcher's environment names other processes that cannot be reached.
    """
    return DistributedContext()


def end_process(code: int) -> NoReturn:
    """Ends a process of a distributed training with an exit code, without the finalization of the interpreter.

    During finalization, a thread of gloo or autograd that still frees a tensor aborts the process (PyTorch's issue
    190489). The launcher would report a training that has succeeded as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Converts a failed collective operation to a RunError. A failed allocation stays what it is."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise RunError(
                "out of memory while the processes exchange tensors; complete checkpoints are saved. Free memory on "
                "this device, or lower train.tokens_per_batch, then run the same command again"
            ) from None
        raise RunError(
            f"the exchange with the other processes failed ({str(error).strip().splitlines()[0]}), because another "
            "process has ended or cannot be reached; see its own error message, then run the same command again"
        ) from None
