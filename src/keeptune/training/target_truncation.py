"""Which part of a solution is trained: all of it, or only its opening, up to a random place.

A solution of thousands of tokens goes wrong in its first lines, and whole solutions practise these once in thousands of
tokens. Openings of every length practise them in fewer; a model that has learnt them learns the rest from fewer rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from keeptune.data.solution_rendering import PreparedRow
from keeptune.training.batches import Example

SHORTEST_TOKENS = 64
"""Tokens that are trained of every longer solution."""

Shares = Mapping[str, float]
"""The share of a kind's rows that are trained as openings; of kinds not named, none."""


def opened(example: Example, shares: Shares, seed: int) -> Example:
    """The row up to where it is trained. An opening has no end token, so nothing says that the solution ends there."""
    prompt = example.labelled.index(True)
    end = prompt + _trained_tokens(example.name, example.kind, len(example.tokens) - prompt, shares, seed)
    return replace(example, tokens=example.tokens[:end], labelled=example.labelled[:end])


def row_tokens(row: PreparedRow, shares: Shares, seed: int) -> int:
    """The tokens that such a row of the data stage has in training, for estimates."""
    return row.prompt_tokens + _trained_tokens(row.name, row.kind, row.solution_tokens, shares, seed)


def _trained_tokens(name: str, kind: str, tokens: int, shares: Shares, seed: int) -> int:
    """How many of a solution's tokens are trained, from the first on.

    Openings of 64 to 128 tokens are as many as those of 1,024 to 2,048, so the earlier a line comes, the more often it
    is practised. The row's name and the seed decide: every epoch and every process has the same.
    """
    generator = random.Random(f"{seed}/openings/{name}")
    if tokens <= SHORTEST_TOKENS or generator.random() >= shares.get(kind, 0.0):
        return tokens
    return int(SHORTEST_TOKENS * (tokens / SHORTEST_TOKENS) ** generator.random())
