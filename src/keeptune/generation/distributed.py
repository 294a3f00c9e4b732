"""Greedy generation in several processes: each holds the whole model and answers a share of the prompts.

Only the first process runs the evaluation, in `answer_together`. Whenever it needs answers, it sends the prompts to the
other processes, which wait there; then all processes answer a part. Each part holds neighboring prompts, because
neighbors often share a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from keeptune.generation.engine import Answer, Generator, ReportProgress, StopRule
from keeptune.training.distributed import DistributedContext

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Request:
    """Prompts that all processes answer together. `scale` is that of the adapter; None leaves it as it is."""

    prompts: list[list[int]]
    budgets: list[int]
    stop: StopRule
    scale: float | None

    def share(self, process: int, processes: int) -> slice:
        """The prompts that one process answers."""
        size = len(self.prompts)
        return slice(process * size // processes, (process + 1) * size // processes)


class DistributedGenerator(Generator):
    """A generator whose greedy answers are computed by all processes. With one process it is a plain generator."""

    def __init__(self, model: Any, tokenizer: Any, group: DistributedContext) -> None:
        super().__init__(model, tokenizer)
        self.group = group
        self.packages: dict[str, str] = {}
        """Versions of further packages that the answers depend on, by name."""
        self.scale: float | None = None
        """The adapter scale inside `scaled`; None outside of it."""

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Multiplies the change that the adapter makes by `scale`, in every process, until the context ends."""
        self.scale = scale
        try:
            with super().scaled(scale):
                yield
        finally:
            self.scale = None

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: ReportProgress | None = None,
    ) -> list[Answer]:
        """Greedy answers, one per prompt, in the order of the prompts.

        `stop` is pickled by name, so it must be a function at the top level of a module.
        """
        if self.group.world_size == 1:
            return self.answer_in_process(prompts, budgets, stop, progress)
        request = _Request([list(prompt) for prompt in prompts], list(budgets), stop, self.scale)
        self.group.all_gather(request)
        share = request.share(0, self.group.world_size)
        parts = self.group.all_gather(self.answer_in_process(prompts[share], budgets[share], stop, progress))
        if progress:
            progress(len(prompts) - len(parts[0]))
        return [answer for part in parts for answer in part]


def answer_together(
    group: DistributedContext, load_generator: Callable[[], Generator], work: Callable[[], Result]
) -> Result | None:
    """Runs `work` in the first process, while the others answer parts of the prompts that its generator gets.

    `load_generator` loads the model of the other processes. It is called at most once, at the first request.

    Returns:
        The result of `work` in the first process, None in the others.
    """
    if not group.is_main:
        _serve(group, load_generator)
        return None
    result = work()
    group.all_gather(None)  # releases the others
    return result


def _serve(group: DistributedContext, load_generator: Callable[[], Generator]) -> None:
    """Answers the requests of the first process until it needs no more."""
    generator: Generator | None = None
    while isinstance(request := group.all_gather(None)[0], _Request):
        generator = generator or load_generator()
        share = request.share(group.rank, group.world_size)
        with nullcontext() if request.scale is None else generator.scaled(request.scale):
            answers = generator.answer_in_process(request.prompts[share], request.budgets[share], request.stop)
        group.all_gather(answers)
