"""Which prompts are decoded together, in which order, and which prefix one prompt copies from another.

The scheduler groups rows of similar capacity and orders them so that neighbors share a prefix. It also plans the
prefill: a common prefix is computed once and copied to the other rows. It works on token ids alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SLOTS = 128
"""Maximum number of rows that are decoded together."""

BLOCK_SLOTS = 2
"""Rows per block, as a multiple of the slots. Smaller blocks lose less when an evaluation is interrupted, but leave
slots unused more often while their last rows finish."""

MIN_SHARED_TOKENS = 16
"""Minimum length of a common prefix that is copied. A shorter one is recomputed, in larger batches."""


@dataclass(slots=True)
class Row:
    """A prompt, its budget of new tokens, and the tokens generated so far.

    `invocation_start` is the first position at which an invoked adapter acts; infinity if it acts nowhere.
    """

    index: int
    prompt: list[int]
    budget: int
    invocation_start: float = math.inf
    output: list[int] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Maximum number of tokens of the row: its prompt and its budget."""
        return len(self.prompt) + self.budget


@dataclass(frozen=True, slots=True)
class Admission:
    """A row to prefill. Its first `shared` tokens are copied from `parent` instead of computed."""

    row: Row
    parent: Row | None
    shared: int


def slots_for(row: Row, capacity_tokens: int) -> int:
    """Number of rows of this capacity that are decoded together in a cache of `capacity_tokens` tokens."""
    return max(1, min(SLOTS, capacity_tokens // row.capacity))


def group_by_capacity(rows: Sequence[Row], capacity_tokens: int) -> list[list[Row]]:
    """Groups rows of similar capacity, the longest first.

    The groups are decoded one after the other. Without them, a few rows that may get long would leave all others
    with few slots.
    """
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.capacity, reverse=True):
        if not groups or slots_for(row, capacity_tokens) >= 2 * slots_for(groups[-1][0], capacity_tokens):
            groups.append([])
        groups[-1].append(row)
    return groups


def divide_into_blocks(rows: Sequence[Row], slots: int) -> list[list[Row]]:
    """Divides the rows of a group into blocks that are decoded one after the other, in reverse order of decoding.

    A block ends when all its rows have finished, so its answers do not depend on other blocks.
    """
    queue, size = decoding_queue(rows), BLOCK_SLOTS * slots
    return [queue[max(0, end - size) : end] for end in range(len(queue), 0, -size)]


def decoding_queue(rows: Sequence[Row]) -> list[Row]:
    """The rows in reverse order of decoding, so that `pop` gives the next one.

    Neighbors share a prefix if most pairs of neighbors share more than all rows do. Otherwise they have similar
    lengths.
    """
    by_prompt = sorted(rows, key=lambda row: row.prompt)
    prompts = [row.prompt for row in by_prompt]
    shared_by_all = common_prefix(prompts[0], prompts[-1])
    shared_by_neighbors = sum(common_prefix(left, right) - shared_by_all for left, right in pairwise(prompts))
    if shared_by_neighbors >= MIN_SHARED_TOKENS * (len(rows) - 1):
        return by_prompt[::-1]
    return sorted(rows, key=lambda row: (row.budget, len(row.prompt)))


def admission_levels(rows: Sequence[Row]) -> list[list[Admission]]:
    """Plans the prefill of rows in three levels. A level copies only from rows of earlier levels.

    1. The first row, and rows that share nothing.
    2. The first row of each run of neighbors with a longer common prefix; it copies what all rows share.
    3. The other rows of such a run; they copy the prefix of the run.
    """
    shared_by_all = min((shared_prefix(rows[0], row) for row in rows[1:]), default=0)
    if shared_by_all < MIN_SHARED_TOKENS:
        shared_by_all = 0
    leader = rows[0]
    levels: list[list[Admission]] = [[Admission(leader, None, 0)], [], []]
    for row in rows[1:]:
        shared = shared_prefix(leader, row)
        if shared >= shared_by_all + MIN_SHARED_TOKENS:
            levels[2].append(Admission(row, leader, min(shared, len(row.prompt) - 1)))
            continue
        leader = row
        if shared_by_all:
            levels[1].append(Admission(row, rows[0], min(shared_by_all, len(row.prompt) - 1)))
        else:
            levels[0].append(Admission(row, None, 0))
    return levels


def shared_prefix(left: Row, right: Row) -> int:
    """Number of leading tokens with equal keys and values: the adapter acts on them in both rows or in neither."""
    shared = common_prefix(left.prompt, right.prompt)
    if left.invocation_start == right.invocation_start:
        return shared
    return int(min(shared, left.invocation_start, right.invocation_start))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of equal leading tokens."""
    for count, (first, second) in enumerate(zip(left, right, strict=False)):
        if first != second:
            return count
    return min(len(left), len(right))
