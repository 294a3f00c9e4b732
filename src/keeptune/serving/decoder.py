"""Decodes rows of several models at once: one set of weights, one cache, the adapter at one scale per forward pass.

It runs the forward passes of `Generator`. Only the loop differs: rows come and leave at any time, and each row has its
own model and sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from keeptune.generation.engine import Generator
from keeptune.generation.sampling import Choice, Sampling, choose_tokens
from keeptune.generation.scheduling import SLOTS, Row
from keeptune.generation.slot_cache import SlotCache, cache_capacity_tokens
from keeptune.models import adapters
from keeptune.models.prepacked_linear import packed_weights
from keeptune.serving.slot_layout import Move, SlotLayout


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """A row of one model, with its sampling."""

    row: Row
    model: str
    sampling: Sampling


class _RowGenerator(Generator):
    """The forward passes of a generator, with a sampling per row.

    Attributes:
        samplings: the sampling of each row, by its index.
        choices: the token that the last pass chose for each row.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model, tokenizer)
        self.samplings: dict[int, Sampling] = {}
        self.choices: dict[int, Choice] = {}

    @torch.inference_mode()
    def prefill(self, cache: SlotCache, first_slot: int, rows: Sequence[Row]) -> list[Row]:
        """Computes the prompts of rows; returns the rows in the order of their slots, from `first_slot` on."""
        ordered, _ = self._admit(cache, first_slot, rows)
        return ordered

    @torch.inference_mode()
    def advance(self, cache: SlotCache, first_slot: int, rows: Sequence[Row]) -> None:
        """Computes the next token of running rows, which fill the slots from `first_slot` on."""
        self._step(cache, rows, first_slot)

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        samplings = [self.samplings[row.index] for row in rows]
        choices = choose_tokens(logits, samplings, [len(row.output) for row in rows])
        self.choices.update({row.index: choice for row, choice in zip(rows, choices, strict=True)})
        return [choice.token for choice in choices]


class BatchDecoder:
    """Decodes rows that come and leave between forward passes.

    Args:
        model: the base with its adapter.
        tokenizer: its tokenizer.
        scales: the factor of the adapter's change, by the name of the model; 0 is the base.
        context_tokens: the maximum length of a row: prompt and answer.
        slots: the number of rows that are decoded together; 0 chooses as many as the memory allows.
    """

    def __init__(
        self, model: Any, tokenizer: Any, scales: Mapping[str, float], context_tokens: int, slots: int = 0
    ) -> None:
        self._generator = _RowGenerator(model, tokenizer)
        weight = self._generator.head.weight
        capacity = cache_capacity_tokens(model.config, weight.itemsize, weight.device)
        self.model, self.tokenizer = model, tokenizer
        self.end_tokens = frozenset(self._generator.stop_ids)
        self.invocation = self._generator.invocation
        self.slots = slots or max(1, min(SLOTS, capacity // context_tokens))
        self.context_tokens = context_tokens
        self._scales, self._groups = dict(scales), {name: group for group, name in enumerate(scales)}
        self._cache = SlotCache(self.slots, context_tokens, weight)
        self._layout = SlotLayout[DecodedRow](len(scales))
        self._numbers = count()
        self._scale_context, self._current = ExitStack(), ""

    @property
    def running(self) -> int:
        """The number of rows in the cache."""
        return len(self._layout)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Context of all passes: weights are packed, and do not change. One thread uses the decoder."""
        with packed_weights(self.model):
            try:
                yield
            finally:
                self._scale_context.close()

    def new_row(self, prompt: Sequence[int], budget: int, model: str, sampling: Sampling) -> DecodedRow:
        """A row for a prompt. `budget` is the maximum number of new tokens."""
        [row] = self._generator.rows([prompt], [budget])
        row.index = next(self._numbers)
        return DecodedRow(row, model, sampling)

    def admit(self, rows: Sequence[DecodedRow]) -> dict[int, Choice]:
        """Prefills rows of one model; returns the first token of each, by the index of the row.

        There must be a free slot for each row.
        """
        group = self._groups[rows[0].model]
        self._move(self._layout.open(group, len(rows)))
        first_slot = self._layout.first_slot(group) + len(self._layout.rows(group))
        by_index = {decoded.row.index: decoded for decoded in rows}
        self._generator.samplings |= {index: decoded.sampling for index, decoded in by_index.items()}
        self._use(rows[0].model)
        ordered = self._generator.prefill(self._cache, first_slot, [decoded.row for decoded in rows])
        self._layout.append(group, [by_index[row.index] for row in ordered])
        return {row.index: self._generator.choices[row.index] for row in ordered}

    def step(self, model: str) -> dict[int, Choice]:
        """The next token of each running row of a model, by the index of the row."""
        group = self._groups[model]
        rows = [decoded.row for decoded in self._layout.rows(group)]
        if not rows:
            return {}
        self._use(model)
        self._generator.advance(self._cache, self._layout.first_slot(group), rows)
        return {row.index: self._generator.choices[row.index] for row in rows}

    def release(self, decoded: DecodedRow) -> None:
        """Removes a row and frees its slot."""
        self._move(self._layout.remove(self._groups[decoded.model], decoded))
        del self._generator.samplings[decoded.row.index], self._generator.choices[decoded.row.index]

    def reset(self) -> None:
        """Removes all rows, after a forward pass that failed."""
        self._layout = SlotLayout[DecodedRow](len(self._scales))
        self._generator.samplings.clear()
        self._generator.choices.clear()

    def _use(self, model: str) -> None:
        """Sets the scale of the adapter."""
        if model != self._current:
            self._scale_context.close()
            self._scale_context.enter_context(adapters.scaled(self.model, self._scales[model]))
            self._current = model

    def _move(self, moves: Iterable[Move[DecodedRow]]) -> None:
        with torch.inference_mode():
            for decoded, source, target in moves:
                self._cache.copy(source, target, len(decoded.row.prompt) + len(decoded.row.output))
