"""Batched greedy decoding and sampling with continuous batching: the generator behind every written answer.

Compared with `model.generate`, three costs are avoided. Rows live in the slots of one fixed cache, so that nothing is
concatenated per token. A finished row gives its slot to a waiting prompt, so that finished rows leave the batch. A
prefix that prompts share, such as the worked passages before a reading question, is computed once and copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keeptune.generation.attention_masks import cached_attention_masks
from keeptune.generation.partial_answers import StoredAnswer, block_key, current_answers
from keeptune.generation.sampling import Sampling, choose_tokens
from keeptune.generation.scheduling import (
    Admission,
    Row,
    admission_levels,
    divide_into_blocks,
    group_by_capacity,
    slots_for,
)
from keeptune.generation.slot_cache import SlotCache, cache_capacity_tokens
from keeptune.models import adapters
from keeptune.models.adapters import causal_model
from keeptune.models.invocation import MASK_ARGUMENT, invocation_of
from keeptune.models.load import end_tokens_of
from keeptune.models.output_layer import output_layer
from keeptune.models.prepacked_linear import packed_weights
from keeptune.models.transfer import to_device
from keeptune.training.batches import make_batches
from keeptune.training.padding import pad_rows

PREFILL_TOKENS = 1_024
"""Maximum number of tokens per prefill pass. The activations of such a pass fit the processor's cache, and the
attention mask of a long prompt stays small."""

PADDED_SHARE = 0.15
"""Maximum share of padding in a prefill pass."""

LINE_ENDS = ("\n", "Ċ", "<0x0A>")
"""Forms of a line end in vocabularies: plain, byte-level (GPT-2, Llama 3), and byte fallback (Llama 2)."""

StopRule = Callable[[str], bool]
"""Whether an answer ends here, given its text so far. It is called whenever a line ends."""

ReportProgress = Callable[[int], None]
"""Called with the number of rows that have finished since the last call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated text after one prompt. `stopped` says whether it ended before its budget was used up."""

    text: str
    tokens: int
    stopped: bool


class AnswerCollector:
    """Appends generated tokens to rows, decides when a row ends, and collects the finished answers.

    All engines that compute tokens share this rule. A row ends at a stop token, at a line end at which the stop rule
    returns true, or when its budget is used up.
    """

    def __init__(self, generator: Generator, stop: StopRule, report_progress: ReportProgress | None) -> None:
        self._tokenizer, self._stop_ids, self._line_ends = generator.tokenizer, generator.stop_ids, generator.line_ends
        self._stop, self._report_progress = stop, report_progress
        self._answers: dict[int, Answer] = {}

    def append(self, row: Row, token: int) -> bool:
        """Appends a token to a row; returns whether the row has finished."""
        stopped = token in self._stop_ids
        if not stopped:
            row.output.append(token)
            stopped = token in self._line_ends and self._stop(self._tokenizer.decode(row.output))
        if not stopped and len(row.output) < row.budget:
            return False
        text = self._tokenizer.decode(row.output, skip_special_tokens=True)
        self._answers[row.index] = Answer(text, len(row.output), stopped)
        if self._report_progress:
            self._report_progress(1)
        return True

    @property
    def rule(self) -> str:
        """The name of the stop rule."""
        return f"{self._stop.__module__}.{self._stop.__qualname__}"

    def restore(self, rows: Sequence[Row], answers: Sequence[StoredAnswer]) -> None:
        """Adds the answers of rows that were generated before."""
        for row, answer in zip(rows, answers, strict=True):
            self._answers[row.index] = Answer(*answer)
        if self._report_progress:
            self._report_progress(len(rows))

    def answers_of(self, rows: Sequence[Row]) -> list[StoredAnswer]:
        """The answers of finished rows, in their order."""
        answers = (self._answers[row.index] for row in rows)
        return [(answer.text, answer.tokens, answer.stopped) for answer in answers]

    def in_order(self) -> list[Answer]:
        """All answers, in the order of the prompts."""
        return [self._answers[index] for index in sorted(self._answers)]


class Generator:
    """Generates answers with a loaded model, in its current state: adapter on, off or scaled."""

    def __init__(self, model: Any, tokenizer: Any, stop_ids: Sequence[int] | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.stop_ids = set(end_tokens_of(causal_model(model), tokenizer) if stop_ids is None else stop_ids)
        self.line_ends = line_end_tokens(tokenizer)
        self.decoder = model.get_decoder()
        self.invocation = invocation_of(causal_model(model))
        self.head = output_layer(model)
        self._sampling_seed: int | None = None

    @property
    def vocabulary(self) -> int:
        """The size of the model's vocabulary."""
        return len(self.head.weight)

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Multiplies the change that the adapter makes by `scale`, until the context ends."""
        with adapters.scaled(self.model, scale):
            yield

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: ReportProgress | None = None,
    ) -> list[Answer]:
        """Greedy answers, one per prompt, in the order of the prompts.

        The result does not depend on the order of the prompts, up to floating-point ties. Subclasses compute the same
        answers elsewhere: in several processes, or with another engine.

        Args:
            prompts: token ids.
            budgets: maximum number of new tokens per prompt.
            stop: see StopRule. The answer keeps the text up to the line at which the rule applies.
        """
        return self.answer_in_process(prompts, budgets, stop, progress)

    def answer_in_process(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: ReportProgress | None = None,
    ) -> list[Answer]:
        """The answers of `answer`, computed in this process with `model`."""
        collector = AnswerCollector(self, stop, progress)
        self._decode(self.rows(prompts, budgets), collector)
        return collector.in_order()

    def sample(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], seed: int) -> list[Answer]:
        """Answers sampled at temperature 1, one per prompt, computed in this process.

        Each row draws its own random numbers. The answer to a prompt therefore depends on its index and on the seed,
        and not on the rows that are decoded beside it.
        """
        collector = AnswerCollector(self, never_stop, None)
        self._sampling_seed = seed
        try:
            self._decode(self.rows(prompts, budgets), collector)
        finally:
            self._sampling_seed = None
        return collector.in_order()

    def rows(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int]) -> list[Row]:
        """The prompts as rows, with the position from which on an invoked adapter acts."""
        rows = [Row(i, list(p), b) for i, (p, b) in enumerate(zip(prompts, budgets, strict=True))]
        if self.invocation:
            for row in rows:
                start = self.invocation.start(row.prompt)
                row.invocation_start = math.inf if start is None else start
        return rows

    @torch.inference_mode()
    def _decode(self, rows: list[Row], collector: AnswerCollector) -> None:
        """Generates tokens until all rows have finished."""
        if not rows:
            return
        weight = self.head.weight
        with packed_weights(self.model):
            capacity_tokens = cache_capacity_tokens(self.model.config, weight.itemsize, weight.device)
            for group in group_by_capacity(rows, capacity_tokens):
                slots = min(slots_for(group[0], capacity_tokens), len(group))
                cache = SlotCache(slots, group[0].capacity, weight)
                for block in divide_into_blocks(group, slots):
                    self._decode_or_restore(cache, slots, block, collector)

    def _decode_or_restore(self, cache: SlotCache, slots: int, block: list[Row], collector: AnswerCollector) -> None:
        """Decodes one block of rows, or takes its answers from an interrupted evaluation."""
        stored = current_answers()
        if stored is None:
            self._decode_block(cache, slots, block, collector)
            return
        rows = list(block)  # decoding empties the block
        key = block_key(rows, f"{collector.rule} {self._sampling_seed}")
        if (answers := stored.find(key)) is not None:
            collector.restore(rows, answers)
            return
        self._decode_block(cache, slots, block, collector)
        stored.add(key, collector.answers_of(rows))

    def _decode_block(self, cache: SlotCache, slots: int, waiting: list[Row], collector: AnswerCollector) -> None:
        """Decodes one block of rows. Running rows always fill the first slots, so that the cache is read in place."""
        running: list[Row] = []
        while waiting or running:
            if waiting and len(running) <= slots * 3 // 4:
                admitted = [waiting.pop() for _ in range(min(slots - len(running), len(waiting)))]
                admitted, next_tokens = self._admit(cache, len(running), admitted)
                updated = range(len(running), len(running) + len(admitted))
                running += admitted
            else:
                next_tokens = self._step(cache, running)
                updated = range(len(running))
            finished = [s for s, token in zip(updated, next_tokens, strict=True) if collector.append(running[s], token)]
            for slot in reversed(finished):
                last_row = running.pop()
                if slot < len(running):
                    cache.copy(len(running), slot, len(last_row.prompt) + len(last_row.output))
                    running[slot] = last_row

    def _admit(self, cache: SlotCache, first_slot: int, rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
        """Prefills rows into the slots from `first_slot` on.

        Returns the rows in the order of their slots, and the first new token of each.
        """
        slots: dict[int, int] = {}
        admitted: list[Row] = []
        next_tokens: list[int] = []
        for level in admission_levels(rows):
            missing = [len(admission.row.prompt) - admission.shared for admission in level]
            shortest_first = sorted(range(len(level)), key=missing.__getitem__)
            for batch in make_batches(shortest_first, missing, PREFILL_TOKENS, PADDED_SHARE):
                admissions = [level[index] for index in batch]
                batch_slot = first_slot + len(admitted)
                for slot, admission in enumerate(admissions, start=batch_slot):
                    slots[admission.row.index] = slot
                    if admission.parent is not None:
                        cache.copy(slots[admission.parent.index], slot, admission.shared)
                next_tokens += self._prefill(cache, batch_slot, admissions)
                admitted += [admission.row for admission in admissions]
        return admitted, next_tokens

    def _prefill(self, cache: SlotCache, first_slot: int, admissions: Sequence[Admission]) -> list[int]:
        """The first new token of each row. A prompt that is a batch by itself is computed in parts."""
        rows, computed = [a.row for a in admissions], [a.shared for a in admissions]
        while len(rows) == 1 and len(rows[0].prompt) - computed[0] > PREFILL_TOKENS:
            part = rows[0].prompt[computed[0] : computed[0] + PREFILL_TOKENS]
            self._forward(cache, first_slot, [part], computed, rows)
            computed = [computed[0] + PREFILL_TOKENS]
        remaining = [row.prompt[start:] for row, start in zip(rows, computed, strict=True)]
        return self._forward(cache, first_slot, remaining, computed, rows)

    def _step(self, cache: SlotCache, running: Sequence[Row], first_slot: int = 0) -> list[int]:
        """The next token of each running row. The rows fill the slots from `first_slot` on."""
        positions = [len(row.prompt) + len(row.output) - 1 for row in running]
        return self._forward(cache, first_slot, [[row.output[-1]] for row in running], positions, running)

    def _forward(
        self, cache: SlotCache, first_slot: int, tokens: list[list[int]], starts: list[int], rows: Sequence[Row]
    ) -> list[int]:
        """Runs one forward pass and returns the next token of each row.

        `tokens[i]` are the new tokens of row i. `starts[i]` is the position of the first of them.
        """
        return self._choose(self.head(self.last_states(cache, first_slot, tokens, starts, rows)), rows)

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        """The next token of each row: the most likely one, or a sampled one. Shape: logits (rows, vocabulary)."""
        seed = self._sampling_seed
        samplings = [Sampling() if seed is None else Sampling(1.0, seed=hash((seed, row.index))) for row in rows]
        return [choice.token for choice in choose_tokens(logits, samplings, [len(row.output) for row in rows])]

    def last_states(
        self, cache: SlotCache, first_slot: int, tokens: list[list[int]], starts: list[int], rows: Sequence[Row]
    ) -> Tensor:
        """Runs one forward pass and returns the hidden state of each row's last token, of shape `(rows, width)`.

        Arguments as in `_forward`.
        """
        device, width = self.head.weight.device, max(map(len, tokens))
        lengths = torch.tensor([len(part) for part in tokens])
        # A row that is shorter than others repeats its last token.
        offsets = torch.arange(width).clamp(max=lengths[:, None] - 1)
        row_ids, row_positions = pad_rows(tokens).gather(1, offsets), torch.tensor(starts)[:, None] + offsets
        last = torch.arange(len(tokens)) * width + lengths - 1
        visible_tokens = int(row_positions.max()) + 1
        adapter_mask = {}
        if self.invocation:
            invocation_starts = torch.tensor([row.invocation_start for row in rows])
            adapter_mask[MASK_ARGUMENT] = to_device(row_positions >= invocation_starts[:, None], device)
        # All numbers travel in one copy.
        numbers = to_device(torch.cat([row_ids.flatten(), row_positions.flatten(), last]), device)
        ids, positions = numbers[: 2 * row_ids.numel()].view(2, *row_ids.shape)
        cache.begin(first_slot, positions, visible_tokens)
        hidden = self.decoder(
            input_ids=ids,
            position_ids=positions,
            attention_mask=cached_attention_masks(
                self.decoder.config, positions, cache.visible_tokens, self.head.weight.dtype
            ),
            past_key_values=cache,
            use_cache=True,
            **adapter_mask,
        ).last_hidden_state
        states: Tensor = hidden.flatten(0, 1).index_select(0, numbers[2 * row_ids.numel() :])
        return states


def line_end_tokens(tokenizer: Any) -> set[int]:
    """The tokens that contain a line end."""
    return {token for text, token in tokenizer.get_vocab().items() if any(end in text for end in LINE_ENDS)}


def never_stop(_: str) -> bool:
    """Stop rule of an answer that ends only at a stop token or at its budget."""
    return False
