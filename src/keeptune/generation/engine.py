"""Greedy answers to many prompts at once: the engine behind every score, base and tuned alike.

`model.generate` keeps finished rows in the batch, concatenates its cache at every token, and recomputes what the
prompts share. Here rows live in slots of one fixed cache: a finished row gives its slot to a waiting prompt, the
running rows always stand at the front (so the cache is read without copying), and a prefix that neighbours share,
such as worked passages before a reading question, is computed once and copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, distributed

from keeptune.models.adapters import causal_model
from keeptune.models.attention import head_size
from keeptune.models.device_memory import total_bytes
from keeptune.models.invocation import MASK_ARGUMENT, invocation_of
from keeptune.models.prepacked_linear import packed_weights
from keeptune.training.batches import make_batches
from keeptune.training.padding import pad_rows

SLOTS = 128
"""The most rows that are decoded together."""

CACHE_TOKENS = 40_960
"""Tokens that the cache holds for all rows, at least."""

CACHE_SHARE = 0.125
"""Of the memory, that the cache may take for more: seven answers of up to 5,500 tokens at a time kept the rows of one
kind waiting longer than all others took."""

PREFILL_TOKENS = 1_024
"""Prompts are computed in parts of at most this many tokens, so that what lies between two layers stays in the cache of
the processor and the mask of a long prompt stays small."""

PADDED_SHARE = 0.15
"""Of such a part, that may be padding."""

SHARED_TOKENS = 16
"""A common prefix shorter than this is computed anew, in larger batches."""

LINE_ENDS = ("\n", "Ċ", "<0x0A>")
"""How vocabularies write a line end: as it is, byte-level (GPT-2, Llama 3), or as a byte (Llama 2)."""

StopRule = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote after one prompt, and whether it stopped by itself within its budget."""

    text: str
    tokens: int
    stopped: bool


@dataclass(slots=True)
class Row:
    """A prompt, how many tokens may follow it, and those that it got so far. An invoked adapter acts from the place
    `invoked` on, or nowhere."""

    index: int
    prompt: list[int]
    budget: int
    invoked: float = math.inf
    output: list[int] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """The most tokens that it can get."""
        return len(self.prompt) + self.budget


@dataclass(frozen=True, slots=True)
class Admission:
    """A row whose prompt is to be computed but for its first `shared` tokens, which are copied from `parent`."""

    row: Row
    parent: Row | None
    shared: int


class _SlotCache:
    """Keys and values of all running rows; what transformers calls `past_key_values`, as far as it is used.

    Keys lie transposed, as the product with the queries wants them: five times faster in bfloat16 on a processor.

    shapes, one of each a layer: keys (slots, groups, head_size, capacity); values (slots, groups, capacity, head_size).
    """

    def __init__(self, config: Any, slots: int, capacity: int, like: Tensor) -> None:
        size, groups, layers = head_size(config), config.num_key_value_heads, range(config.num_hidden_layers)
        self.keys = [like.new_zeros(slots, groups, size, capacity) for _ in layers]
        self.values = [like.new_zeros(slots, groups, capacity, size) for _ in layers]
        self.first = 0
        self.positions = torch.empty(0, 0, dtype=torch.long)

    def begin(self, first: int, positions: Tensor) -> None:
        """The next forward pass is for the rows from slot `first` on. shape: positions (rows, tokens)."""
        self.first, self.positions = first, positions
        self.slots = torch.arange(first, first + len(positions), device=positions.device)[:, None]
        self.reach = int(positions.max()) + 1

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """All keys and values that these rows may look at. shapes: in and out (rows, groups, tokens, head_size)."""
        last = self.first + len(self.positions)
        rows = slice(self.first, last)
        self.keys[layer][self.slots, :, :, self.positions] = key.transpose(1, 2)
        self.values[layer][self.slots, :, self.positions] = value.transpose(1, 2)
        return self.keys[layer][rows, ..., : self.reach].transpose(2, 3), self.values[layer][rows, :, : self.reach]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first `tokens` of one slot, copied to another."""
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, ..., :tokens] = keys[source, ..., :tokens]
            values[target, :, :tokens] = values[source, :, :tokens]


class Generator:
    """A loaded model that answers prompts greedily. The model is used as it stands: adapter on, off or scaled."""

    def __init__(self, model: Any, tokenizer: Any, stop_ids: Sequence[int] | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.stop_ids = set(stop_ids if stop_ids is not None else [tokenizer.eos_token_id])
        self.line_ends = {i for text, i in tokenizer.get_vocab().items() if any(end in text for end in LINE_ENDS)}
        self.decoder = model.get_decoder()
        self.invocation = invocation_of(causal_model(model))
        self.head = model.get_output_embeddings()
        self._sampling_seed: int | None = None

    @torch.inference_mode()
    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """One answer a prompt, in the order of the prompts.

        `budgets` are upper bounds in new tokens. `stop` sees the text so far whenever a line ends; the result keeps
        the text up to there. The result does not depend on the order of the prompts, up to floating-point ties.
        """
        rows = self._rows(prompts, budgets)
        answers: dict[int, Answer] = {}
        if not rows:
            return []
        self._fill(answers, rows, stop, progress)
        return [answers[index] for index in range(len(prompts))]

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], seed: int) -> list[Answer]:
        """One answer per prompt, drawn from the model's own distribution (temperature 1), by this process alone.

        Each row draws its own random numbers, so the same seed gives the same answers whatever is decoded beside it.
        """
        rows = self._rows(prompts, budgets)
        answers: dict[int, Answer] = {}
        self._sampling_seed = seed
        try:
            if rows:
                Generator._fill(self, answers, rows, at_the_end, None)
        finally:
            self._sampling_seed = None
        return [answers[index] for index in range(len(prompts))]

    def _rows(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int]) -> list[Row]:
        rows = [Row(i, list(p), b) for i, (p, b) in enumerate(zip(prompts, budgets, strict=True))]
        if self.invocation:
            for row in rows:
                start = self.invocation.start(row.prompt)
                row.invoked = math.inf if start is None else start
        return rows

    def _fill(
        self,
        answers: dict[int, Answer],
        rows: list[Row],
        stop: StopRule,
        progress: Callable[[int], None] | None,
    ) -> None:
        """Fills `answers`: the part of answering that another engine does in its own way."""
        with packed_weights(self.model):
            room = cache_tokens(self.model.config, self.head.weight.itemsize, self.head.weight.device)
            for alike in _alike(rows, room):
                slots = min(_slots(alike[0], room), len(alike))
                cache = _SlotCache(self.model.config, slots, alike[0].capacity, self.head.weight)
                self._run(cache, slots, _ordered(alike), stop, answers, progress)

    def _run(
        self,
        cache: _SlotCache,
        slots: int,
        waiting: list[Row],
        stop: StopRule,
        answers: dict[int, Answer],
        progress: Callable[[int], None] | None,
    ) -> None:
        """Fills `answers` until no row is waiting or running."""
        running: list[Row] = []
        while waiting or running:
            if waiting and len(running) <= slots * 3 // 4:
                admitted = [waiting.pop() for _ in range(min(slots - len(running), len(waiting)))]
                admitted, next_tokens = self._admit(cache, len(running), admitted)
                fresh = range(len(running), len(running) + len(admitted))
                running += admitted
            else:
                next_tokens = self._step(cache, running)
                fresh = range(len(running))
            for slot in reversed(self._append(running, fresh, next_tokens, stop, answers)):
                if progress:
                    progress(1)
                moved = running.pop()
                if slot < len(running):
                    cache.copy(len(running), slot, len(moved.prompt) + len(moved.output))
                    running[slot] = moved

    def _append(
        self, running: list[Row], slots: Sequence[int], tokens: list[int], stop: StopRule, answers: dict[int, Answer]
    ) -> list[int]:
        """The slots whose row has finished with its new token; their answers are recorded."""
        finished = []
        for slot, token in zip(slots, tokens, strict=True):
            row = running[slot]
            ended = token in self.stop_ids
            if not ended:
                row.output.append(token)
                ended = token in self.line_ends and stop(self.tokenizer.decode(row.output))
            if ended or len(row.output) >= row.budget:
                text = self.tokenizer.decode(row.output, skip_special_tokens=True)
                answers[row.index] = Answer(text, len(row.output), ended)
                finished.append(slot)
        return finished

    def _admit(self, cache: _SlotCache, first: int, rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
        """Computes the prompts into the slots from `first` on. The rows in the order of their slots, and the first new
        token of each."""
        slots: dict[int, int] = {}
        admitted: list[Row] = []
        tokens: list[int] = []
        for level in _levels(rows):
            missing = [len(own.row.prompt) - own.shared for own in level]
            shortest_first = sorted(range(len(level)), key=missing.__getitem__)
            for batch in make_batches(shortest_first, missing, PREFILL_TOKENS, PADDED_SHARE):
                some = [level[index] for index in batch]
                for slot, own in enumerate(some, start=first + len(admitted)):
                    slots[own.row.index] = slot
                    if own.parent is not None:
                        cache.copy(slots[own.parent.index], slot, own.shared)
                tokens += self._prefill(cache, first + len(admitted), some)
                admitted += [own.row for own in some]
        return admitted, tokens

    def _prefill(self, cache: _SlotCache, first: int, admissions: Sequence[Admission]) -> list[int]:
        """The first new token of each row; a prompt that is a batch of its own goes in parts."""
        rows, done = [own.row for own in admissions], [own.shared for own in admissions]
        while len(rows) == 1 and len(rows[0].prompt) - done[0] > PREFILL_TOKENS:
            self._forward(cache, first, [rows[0].prompt[done[0] : done[0] + PREFILL_TOKENS]], done, rows)
            done = [done[0] + PREFILL_TOKENS]
        parts = [row.prompt[start:] for row, start in zip(rows, done, strict=True)]
        return self._forward(cache, first, parts, done, rows)

    def _step(self, cache: _SlotCache, running: list[Row]) -> list[int]:
        lengths = [len(row.prompt) + len(row.output) - 1 for row in running]
        return self._forward(cache, 0, [[row.output[-1]] for row in running], lengths, running)

    def _forward(
        self, cache: _SlotCache, first: int, tokens: list[list[int]], starts: list[int], rows: Sequence[Row]
    ) -> list[int]:
        """The next token of each row, given new tokens that stand at `starts`: the likeliest, or a drawn one."""
        device = self.head.weight.device
        width = max(map(len, tokens))
        ids = pad_rows(tokens, device)
        lengths = torch.tensor([len(part) for part in tokens], device=device)
        offsets = torch.arange(width, device=device).clamp(max=lengths[:, None] - 1)
        positions = torch.tensor(starts, device=device)[:, None] + offsets
        cache.begin(first, positions)
        seen = torch.arange(cache.reach, device=device) <= positions[:, :, None]
        mask = torch.zeros(seen.shape, dtype=self.head.weight.dtype, device=device).masked_fill_(~seen, float("-inf"))
        ids = ids.gather(1, offsets)
        where = {}
        if self.invocation:
            where[MASK_ARGUMENT] = positions >= torch.tensor([row.invoked for row in rows], device=device)[:, None]
        hidden = self.decoder(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask[:, None],
            past_key_values=cache,
            use_cache=True,
            **where,
        ).last_hidden_state
        last = hidden[torch.arange(len(tokens), device=device), lengths - 1]
        logits = self.head(last)
        if self._sampling_seed is not None:
            logits = logits.float() + self._noise(rows, logits.shape[-1]).to(device)
        chosen: list[int] = logits.max(-1).indices.tolist()
        return chosen

    def _noise(self, rows: Sequence[Row], vocabulary: int) -> Tensor:
        """Gumbel noise, whose largest sum with the logits is a draw from their softmax (Gumbel 1954; Maddison et al.
        2014, arXiv 1411.0030). shape: (rows, vocabulary)."""
        noise = torch.empty(len(rows), vocabulary)
        for place, row in enumerate(rows):
            draw = torch.Generator().manual_seed(hash((self._sampling_seed, row.index, len(row.output))) & (2**63 - 1))
            noise[place].exponential_(generator=draw)
        return -noise.log()


def at_the_end(_: str) -> bool:
    """The stop rule of an answer that ends with the model's end token alone."""
    return False


def cached_values(config: Any) -> int:
    """The numbers that a token leaves in the cache: its keys and values of all layers."""
    values: int = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size(config)
    return values


def cache_tokens(config: Any, itemsize: int, device: torch.device) -> int:
    """How many tokens the cache may hold: a power of two times the least. What is free does not count, so base and
    tuned get the same slots; processes on one machine share it."""
    token_bytes = cached_values(config) * itemsize
    processes = distributed.get_world_size() if device.type == "cpu" and distributed.is_initialized() else 1
    times = max(1, int(CACHE_SHARE * total_bytes(device) / processes / (CACHE_TOKENS * token_bytes)))
    return CACHE_TOKENS << times.bit_length() - 1


def _slots(row: Row, room: int) -> int:
    """How many rows as long as this one can get are decoded together, in a cache of so many tokens."""
    return max(1, min(SLOTS, room // row.capacity))


def _alike(rows: list[Row], room: int) -> list[list[Row]]:
    """The rows in groups, the longest first: a few that may get long must not leave the rest with few slots."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.capacity, reverse=True):
        if not groups or _slots(row, room) >= 2 * _slots(groups[-1][0], room):
            groups.append([])
        groups[-1].append(row)
    return groups


def _ordered(rows: list[Row]) -> list[Row]:
    """Rows from last to first: neighbours share a prefix where most share more than all do, else they have like
    lengths."""
    ordered = sorted(rows, key=lambda row: row.prompt)
    prompts = [row.prompt for row in ordered]
    everywhere = _common(prompts[0], prompts[-1])
    more = sum(_common(left, right) - everywhere for left, right in pairwise(prompts))
    if more >= SHARED_TOKENS * (len(rows) - 1):
        return ordered[::-1]
    return sorted(rows, key=lambda row: (row.budget, len(row.prompt)))


def _levels(rows: Sequence[Row]) -> list[list[Admission]]:
    """The rows in three levels, each of which may copy from those before: the first row, from which all others copy
    what all share; the first of every run of neighbours that share more; and the others of such a run."""
    everywhere = min((_shared(rows[0], row) for row in rows[1:]), default=0)
    if everywhere < SHARED_TOKENS:
        everywhere = 0
    leader = rows[0]
    levels: list[list[Admission]] = [[Admission(leader, None, 0)], [], []]
    for row in rows[1:]:
        shared = _shared(leader, row)
        if shared >= everywhere + SHARED_TOKENS:
            levels[2].append(Admission(row, leader, min(shared, len(row.prompt) - 1)))
            continue
        leader = row
        if everywhere:
            levels[1].append(Admission(row, rows[0], min(everywhere, len(row.prompt) - 1)))
        else:
            levels[0].append(Admission(row, None, 0))
    return levels


def _shared(left: Row, right: Row) -> int:
    """The number of tokens at the front that leave equal keys and values: the adapter acts on them in both or in
    neither."""
    shared = _common(left.prompt, right.prompt)
    return shared if left.invoked == right.invoked else int(min(shared, left.invoked, right.invoked))


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of equal tokens at the front."""
    for count, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return count
    return min(len(left), len(right))
