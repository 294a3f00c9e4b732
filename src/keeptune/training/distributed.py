"""The processes that train together: one, or as many as a launcher such as torchrun has started.

What they tell each other goes two ways. Gradients go between the accelerators. All else, how a step went, whether to
stop, who is done, goes between the processors, where one may wait for another as long as scoring takes.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from keeptune.errors import RunError
from keeptune.models.load import device

PATIENCE = timedelta(days=1)
"""How long one process may work alone, on data or on scores, while the others wait."""

Told = TypeVar("Told")


class Processes:
    """This process among all. With one process nothing is ever sent."""

    def __init__(self) -> None:
        # Where torchrun, accelerate and others leave them.
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.number = int(os.environ.get("RANK", "0")) if self.count > 1 else 0
        self.beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1
        """How many of them share this machine's processor and its memory."""
        self._processors: Any = None
        if self.count > 1:
            self._join()

    def _join(self) -> None:
        own = device()
        if own.type != "cpu":
            torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            dist.init_process_group(dist.get_default_backend_for_device(own))
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"process {self.number} of {self.count} (RANK and WORLD_SIZE): the others cannot be joined ({error}); "
                "start them with torchrun, or unset WORLD_SIZE to train with this one alone"
            ) from None
        atexit.register(dist.destroy_process_group)
        self._processors = dist.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes files and talks."""
        return self.number == 0

    def gather(self, own: Told) -> list[Told]:
        """What each process tells, in their order; the same list on all of them."""
        if self.count == 1:
            return [own]
        told: list[Any] = [None] * self.count
        with _together():
            dist.all_gather_object(told, own, group=self._processors)
        return told

    def wait(self) -> None:
        """Returns when every process has come here."""
        self.gather(None)

    def once(self, work: Callable[[], None]) -> None:
        """Has the first process do `work`; the others wait for it."""
        if self.first:
            work()
        self.wait()

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Puts the sum of all processes' gradients in place of each one's own; none counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        with _together():
            dist.all_reduce(flat)
        sums = flat.split([parameter.numel() for parameter in parameters])
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total.view_as(parameter)

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Makes every process's tensors those of the first."""
        if self.count > 1:
            with _together():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    def mesh(self) -> DeviceMesh:
        """All of them in a row, over which a model can be divided."""
        return init_device_mesh(device().type, (self.count,))


@cache
def processes() -> Processes:
    """This process among all; the same object at every call, because the others are joined only once.

    errors: RunError when a launcher said that there are others, and they cannot be reached.
    """
    return Processes()


@contextmanager
def _together() -> Iterator[None]:
    """errors: RunError when another process has ended meanwhile."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "another process of this training has ended; its own message says why. "
            f"Then run the same command again ({str(error).strip().splitlines()[0]})"
        ) from None
