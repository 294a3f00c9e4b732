"""Which rows go through the model together, in which order: decided once, from lengths and a seed alone.

A step is a number of useful tokens, not of rows, because rows differ in length. Rows of like length share a batch, so
that hardly anything is padded; but a step takes several batches of different lengths, because rows of one length are
often of one kind, and a step over one kind pulls the adapter away from the others.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_STEPS = 32
"""Rows are sorted by length within the rows of so many steps: enough to pad little, few enough to stay random."""

PADDED_SHARE = 0.03
"""What may be padding of the batches of a window. One such batch alone may hold more, as long as others hold less."""

UNEVEN = 1.1
"""How many times its part of a step one process may have to do, if the step's rows allow less."""

Batch = tuple[int, ...]
"""Indexes of rows that go through the model at once."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row as tokens. `labelled[i]` says whether the model is trained to write `tokens[i]`."""

    name: str
    kind: str
    tokens: tuple[int, ...]
    labelled: tuple[bool, ...]


def rows_sha256(examples: Sequence[Example]) -> str:
    """The hash of all tokens in their order, and of which are learnt; row by row, for they may be millions."""
    digest = hashlib.sha256()
    for row in examples:
        digest.update(array("q", (len(row.tokens), *row.tokens)).tobytes() + bytes(row.labelled))
    return digest.hexdigest()


def steps(
    lengths: Sequence[int], tokens_per_step: int, tokens_per_batch: int, epochs: float, seed: int
) -> list[list[Batch]]:
    """The whole training in order: a list of steps, each a list of batches.

    Every row comes once an epoch. A step holds at least `tokens_per_step` useful tokens (the last of a window
    may hold fewer), a batch at most `tokens_per_batch` padded tokens, unless one row alone is longer. At most
    PADDED_SHARE of all is padding.
    """
    planned: list[list[Batch]] = []
    whole, rest = divmod(epochs, 1)
    for epoch in range(int(whole) + (rest > 0)):
        generator = random.Random(f"{seed}/{epoch}")
        order = list(range(len(lengths)))
        generator.shuffle(order)
        if epoch == int(whole):
            order = order[: max(1, round(rest * len(order)))]
        for window in _windows(order, lengths, WINDOW_STEPS * tokens_per_step):
            batches = _hardly_padded(sorted(window, key=lambda i: (lengths[i], i)), lengths, tokens_per_batch)
            generator.shuffle(batches)
            planned += _group(batches, lengths, tokens_per_step)
    return planned


def padded_share(planned: Sequence[Sequence[Batch]], lengths: Sequence[int]) -> float:
    """The share of all tokens in the batches that is padding."""
    useful = sum(lengths[i] for step in planned for batch in step for i in batch)
    padded = sum(padded_tokens(batch, lengths) for step in planned for batch in step)
    return 1 - useful / padded if padded else 0.0


def shares(step: Sequence[Batch], lengths: Sequence[int], processes: int) -> list[list[Batch]]:
    """The batches of one step that each process takes: all of its rows, for each about as many padded tokens.

    Batches go round from the largest to the smallest, each to whoever has least. Where that leaves one process with
    much more than its part, or another with nothing, its largest batch is halved.
    """
    pieces = list(step)
    while True:
        dealt = _dealt(pieces, lengths, processes)
        sizes = [sum(padded_tokens(batch, lengths) for batch in share) for share in dealt]
        largest = max(dealt[sizes.index(max(sizes))], key=lambda batch: padded_tokens(batch, lengths))
        if max(sizes) * processes <= UNEVEN * sum(sizes) or len(largest) == 1:
            return dealt
        place, half = pieces.index(largest), len(largest) // 2
        pieces[place : place + 1] = [largest[:half], largest[half:]]


def _dealt(pieces: list[Batch], lengths: Sequence[int], processes: int) -> list[list[Batch]]:
    sizes = [padded_tokens(batch, lengths) for batch in pieces]
    owners, loads = [0] * len(pieces), [0] * processes
    for place in sorted(range(len(pieces)), key=lambda place: -sizes[place]):
        owners[place] = loads.index(min(loads))
        loads[owners[place]] += sizes[place]
    return [[pieces[place] for place, owner in enumerate(owners) if owner == own] for own in range(processes)]


def padded_tokens(batch: Batch, lengths: Sequence[int]) -> int:
    """The tokens that go through the model, padding included."""
    return len(batch) * max(lengths[i] for i in batch)


def _windows(order: list[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    windows: list[list[int]] = [[]]
    filled = 0
    for index in order:
        if filled >= tokens:
            windows.append([])
            filled = 0
        windows[-1].append(index)
        filled += lengths[index]
    return windows


def batched(ordered: list[int], lengths: Sequence[int], tokens_per_batch: int, padded: float = 1.0) -> list[Batch]:
    """Rows cut into batches of at most so many padded tokens, unless one row alone is longer, with at most the share
    `padded` of padding; `ordered` is from short to long, so the last row of a batch sets its width."""
    batches: list[Batch] = []
    current: list[int] = []
    useful = 0
    for index in ordered:
        size = (len(current) + 1) * lengths[index]
        if current and (size > tokens_per_batch or size - useful - lengths[index] > padded * size):
            batches.append(tuple(current))
            current, useful = [], 0
        current.append(index)
        useful += lengths[index]
    if current:
        batches.append(tuple(current))
    return batches


def _hardly_padded(ordered: list[int], lengths: Sequence[int], tokens_per_batch: int) -> list[Batch]:
    """Batches as large as they may be with at most PADDED_SHARE of padding in all, for small ones are slower."""
    for times in (math.inf, 4, 3, 2.5, 2, 1.5, 1):
        batches = batched(ordered, lengths, tokens_per_batch, times * PADDED_SHARE)
        if padded_share([batches], lengths) <= PADDED_SHARE:
            break
    return batches


def _group(batches: list[Batch], lengths: Sequence[int], tokens_per_step: int) -> list[list[Batch]]:
    grouped: list[list[Batch]] = [[]]
    filled = 0
    for batch in batches:
        if filled >= tokens_per_step:
            grouped.append([])
            filled = 0
        grouped[-1].append(batch)
        filled += sum(lengths[i] for i in batch)
    return [step for step in grouped if step]
