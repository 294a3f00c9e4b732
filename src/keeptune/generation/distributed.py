"""Answers from several processes: each has the whole model and writes a share of them.

The first process scores as if it were alone. Wherever it asks for answers, the others, who wait for that in `help_out`,
are told what is asked, and how much the adapter counts; then all take a part of the prompts. So what is scored, stored
and said stays in one place. Neighbours stay together, because they share a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from keeptune.generation.engine import Answer, Generator, StopRule
from keeptune.models import adapters
from keeptune.training.distributed import DistributedContext


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of all processes."""

    prompts: list[list[int]]
    budgets: list[int]
    stop: StopRule
    scale: float | None

    def part(self, number: int, count: int) -> slice:
        """The prompts of one process."""
        size = len(self.prompts)
        return slice(number * size // count, (number + 1) * size // count)


class SharedGenerator(Generator):
    """A generator that has the other processes answer with it. With one process it is a plain one."""

    def __init__(self, model: Any, tokenizer: Any, group: DistributedContext) -> None:
        super().__init__(model, tokenizer)
        self.group = group
        self.packages: dict[str, str] = {}
        """Others than keeptune's own that answers depend on, and their versions."""
        self._scale: float | None = None

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """While it lasts, the adapter counts `scale` times, in every process; else it counts as the model has it."""
        self._scale = scale
        try:
            with adapters.scaled(self.model, scale):
                yield
        finally:
            self._scale = None

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """One answer a prompt, in their order. `stop` is sent by its name, so it has to be a module's own function."""
        if self.group.world_size == 1:
            return super().answer(prompts, budgets, stop, progress)
        request = _Request([list(prompt) for prompt in prompts], list(budgets), stop, self._scale)
        self.group.all_gather(request)
        own = request.part(0, self.group.world_size)
        told = self.group.all_gather(super().answer(prompts[own], budgets[own], stop, progress))
        if progress:
            progress(len(prompts) - len(told[0]))
        return [answer for part in told for answer in part]


def help_out(group: DistributedContext, made: Callable[[], Generator]) -> None:
    """Answers what the first process asks for, until it needs no more. `made` loads the model, once and if needed."""
    generator: Generator | None = None
    while isinstance(request := group.all_gather(None)[0], _Request):
        generator = generator or made()
        own = request.part(group.rank, group.world_size)
        with nullcontext() if request.scale is None else adapters.scaled(generator.model, request.scale):
            answers = Generator.answer(generator, request.prompts[own], request.budgets[own], request.stop)
        group.all_gather(answers)
