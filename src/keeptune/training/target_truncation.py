"""Truncation of training targets: some rows are trained only on a prefix of random length of their solution.

A long solution usually goes wrong in its first lines, but whole solutions practice these lines once per thousands of
tokens. Prefixes of all lengths practice them with far fewer tokens. A model that has learned the beginnings then learns
the rest from fewer rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from keeptune.data import solution_rendering
from keeptune.training.batches import TokenizedExample

MIN_TARGET_TOKENS = 64
"""The shortest prefix. Solutions up to this length are never truncated."""

PrefixShares = Mapping[str, float]
"""The share of rows with a truncated target, by kind. A kind that is not named has none."""


def truncate_target(example: TokenizedExample, shares: PrefixShares, seed: int) -> TokenizedExample:
    """The row, cut off where its target ends. A prefix has no end token, because the solution does not end there."""
    prompt_tokens = example.loss_mask.index(True)
    solution_tokens = len(example.tokens) - prompt_tokens
    end = prompt_tokens + _target_tokens(example.name, example.kind, solution_tokens, shares, seed)
    return replace(example, tokens=example.tokens[:end], loss_mask=example.loss_mask[:end])


def truncated_row_tokens(row: solution_rendering.PreparedRow, shares: PrefixShares, seed: int) -> int:
    """The length of a row of the data stage after truncation, in tokens, for estimates."""
    return row.prompt_tokens + _target_tokens(row.name, row.kind, row.solution_tokens, shares, seed)


def _target_tokens(name: str, kind: str, tokens: int, shares: PrefixShares, seed: int) -> int:
    """The number of target tokens of a solution that has `tokens` tokens.

    The length is log-uniform: prefixes of 64 to 128 tokens are as frequent as those of 1,024 to 2,048, so the earlier a
    line, the more often it is practiced. The row's name and the seed decide, so every epoch and process agrees.
    """
    generator = random.Random(f"{seed}/openings/{name}")
    if tokens <= MIN_TARGET_TOKENS or generator.random() >= shares.get(kind, 0.0):
        return tokens
    return int(MIN_TARGET_TOKENS * (tokens / MIN_TARGET_TOKENS) ** generator.random())
