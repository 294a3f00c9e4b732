"""The plan of a training: which rows form a batch, which batches form a step, and in which order.

The plan follows from row lengths and a seed alone, so a resumed training computes the same plan again. A step is
measured in tokens, because rows differ in length. It combines several parts, each with rows of similar length, so that
its batches need little padding. It needs several, because rows of one length are often of one kind, and a step over
one kind would pull the adapter away from the others. The steps are planned first and cut into batches afterwards, so
the batch size, which is a matter of memory and speed, changes no step.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

WINDOW_STEPS = 32
"""Rows are sorted by length within a window of this many steps: enough for little padding, few enough for a random
order."""

PARTS_PER_STEP, MIN_PART_TOKENS = 4, 256
"""A step combines this many parts of similar length, but no part is smaller than this many tokens, unless the step is.
More and smaller parts would give a step more kinds, and smaller batches, which are slower."""

MAX_PADDING_SHARE = 0.03
"""The largest share of padding over the batches of a step. A single batch may have more if others have less."""

MAX_IMBALANCE = 1.1
"""The most padded tokens that one process may compute per step, relative to an even split, if the rows allow it."""

REPLAY_KIND = "reading"
"""The `kind` of replayed rows. Logs, checkpoints and reports of all versions use this name."""

Batch = tuple[int, ...]
"""Indices of the rows that pass through the model together."""


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One training row as tokens. `loss_mask[i]` says whether `tokens[i]` is a target of the loss."""

    name: str
    kind: str
    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]

    @property
    def is_replay(self) -> bool:
        """Whether the row is replay and not a row of the skill."""
        return self.kind == REPLAY_KIND


def rows_sha256(examples: Sequence[TokenizedExample]) -> str:
    """The SHA-256 of all tokens and loss masks, in order."""
    digest = hashlib.sha256()
    # Row by row, because there may be millions.
    for row in examples:
        digest.update(array("q", (len(row.tokens), *row.tokens)).tobytes() + bytes(row.loss_mask))
    return digest.hexdigest()


def plan_steps(
    lengths: Sequence[int], tokens_per_step: int, tokens_per_batch: int, epochs: float, seed: int
) -> list[list[Batch]]:
    """The steps of the whole training, in order; each step is a list of batches.

    Each epoch contains every row once; a fractional last epoch contains a random part of the rows. At most
    MAX_PADDING_SHARE of all tokens is padding. Which rows form a step does not depend on `tokens_per_batch`.

    Args:
        lengths: the tokens per row.
        tokens_per_step: the non-padding tokens of a step, on average over a window.
        tokens_per_batch: the maximum of padded tokens per batch, unless a single row is longer.
        epochs: the number of passes over the rows.
        seed: decides the order.
    """
    planned: list[list[Batch]] = []
    part_tokens = max(tokens_per_step // PARTS_PER_STEP, min(tokens_per_step, MIN_PART_TOKENS))
    full_epochs, fraction = divmod(epochs, 1)
    for epoch in range(int(full_epochs) + (fraction > 0)):
        generator = random.Random(f"{seed}/{epoch}")
        order = list(range(len(lengths)))
        generator.shuffle(order)
        if epoch == int(full_epochs):
            order = order[: max(1, round(fraction * len(order)))]
        for window in _divide([(row,) for row in order], lengths, WINDOW_STEPS * tokens_per_step):
            parts = make_batches(_by_length(window, lengths), lengths, part_tokens)
            generator.shuffle(parts)
            for step in _divide(parts, lengths, tokens_per_step):
                batches = _low_padding_batches(_by_length(step, lengths), lengths, tokens_per_batch)
                generator.shuffle(batches)
                planned.append(batches)
    return planned


def padding_share(planned: Sequence[Sequence[Batch]], lengths: Sequence[int]) -> float:
    """The share of padding among all tokens of the planned batches."""
    tokens = sum(lengths[i] for step in planned for batch in step for i in batch)
    padded = sum(padded_tokens(batch, lengths) for step in planned for batch in step)
    return 1 - tokens / padded if padded else 0.0


def split_step(step: Sequence[Batch], lengths: Sequence[int], processes: int) -> list[list[Batch]]:
    """Divides the batches of a step over `processes`, so that each gets about as many padded tokens.

    Batches are assigned from the largest to the smallest, each to the process with the lowest load. If one process
    exceeds MAX_IMBALANCE, or another gets nothing, the largest batch of the most loaded process is halved.
    """
    pieces = list(step)
    while True:
        assigned = _assign(pieces, lengths, processes)
        loads = [sum(padded_tokens(batch, lengths) for batch in batches) for batches in assigned]
        largest = max(assigned[loads.index(max(loads))], key=lambda batch: padded_tokens(batch, lengths))
        if max(loads) * processes <= MAX_IMBALANCE * sum(loads) or len(largest) == 1:
            return assigned
        position, half = pieces.index(largest), len(largest) // 2
        pieces[position : position + 1] = [largest[:half], largest[half:]]


def _assign(pieces: list[Batch], lengths: Sequence[int], processes: int) -> list[list[Batch]]:
    sizes = [padded_tokens(batch, lengths) for batch in pieces]
    ranks, loads = [0] * len(pieces), [0] * processes
    for position in sorted(range(len(pieces)), key=lambda position: -sizes[position]):
        ranks[position] = loads.index(min(loads))
        loads[ranks[position]] += sizes[position]
    return [[pieces[position] for position, owner in enumerate(ranks) if owner == rank] for rank in range(processes)]


def padded_tokens(batch: Batch, lengths: Sequence[int]) -> int:
    """The tokens of a batch that pass through the model, padding included."""
    return len(batch) * max(lengths[i] for i in batch)


def _by_length(rows: Sequence[int], lengths: Sequence[int]) -> list[int]:
    return sorted(rows, key=lambda i: (lengths[i], i))


def make_batches(
    ordered: Sequence[int], lengths: Sequence[int], tokens_per_batch: int, max_padding_share: float = 1.0
) -> list[Batch]:
    """Cuts rows into batches of at most `tokens_per_batch` padded tokens, unless a single row is longer.

    Args:
        ordered: row indices from the shortest to the longest row; the last row of a batch sets its width.
        lengths: the tokens per row.
        tokens_per_batch: the maximum of padded tokens per batch.
        max_padding_share: the largest share of padding per batch.
    """
    batches: list[Batch] = []
    current: list[int] = []
    tokens = 0
    for index in ordered:
        size = (len(current) + 1) * lengths[index]
        if current and (size > tokens_per_batch or size - tokens - lengths[index] > max_padding_share * size):
            batches.append(tuple(current))
            current, tokens = [], 0
        current.append(index)
        tokens += lengths[index]
    if current:
        batches.append(tuple(current))
    return batches


def _low_padding_batches(ordered: list[int], lengths: Sequence[int], tokens_per_batch: int) -> list[Batch]:
    """The largest batches with at most MAX_PADDING_SHARE of padding in total, because small batches are slower."""
    for factor in (math.inf, 4, 3, 2.5, 2, 1.5, 1):
        batches = make_batches(ordered, lengths, tokens_per_batch, factor * MAX_PADDING_SHARE)
        if padding_share([batches], lengths) <= MAX_PADDING_SHARE:
            break
    return batches


def _divide(pieces: Sequence[Batch], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Divides rows, in order, evenly into groups of about `tokens` tokens.

    A piece stays whole: it belongs to the group that holds its middle.
    """
    sizes = [sum(lengths[i] for i in piece) for piece in pieces]
    total = sum(sizes)
    count = max(1, round(total / tokens))
    groups: list[list[int]] = [[] for _ in range(count)]
    for piece, size, end in zip(pieces, sizes, accumulate(sizes), strict=True):
        groups[(2 * end - size) * count // (2 * total)] += piece
    return [group for group in groups if group]
