"""Practice for what a skill's procedures look up by heart, mixed into training as a share of its tokens.

A procedure meets each of nine hundred facts once in a few hundred problems. Lines of the table alone show a fact for
the price of a dozen tokens, where a problem takes a thousand to ask for two.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from keeptune.prompt.template import encode_prompt
from keeptune.train.batches import Example

KIND = "table"

ROW_LINES = 12
"""Lines of a row: enough to fill a batch with few rows, too few for neighbours in it to tell a line away."""

Recite = Callable[[random.Random], tuple[str, str]]
"""What is given of a random line, and what is to be written behind it."""


def table(recite: Recite, tokenizer: Any, tokens: int, seed: int) -> list[Example]:
    """Rows of at least `tokens` tokens in all, labelled on what is to be written and on the ends of lines."""
    generator = random.Random(f"{seed}/table")
    rows: list[Example] = []
    filled = 0
    while filled < tokens:
        rows.append(_row(recite, tokenizer, generator, len(rows)))
        filled += len(rows[-1].tokens)
    return rows


def _row(recite: Recite, tokenizer: Any, generator: random.Random, number: int) -> Example:
    tokens = encode_prompt(tokenizer, "")  # a BOS, or nothing
    labelled = [False] * len(tokens)
    for _ in range(ROW_LINES):
        for text, is_labelled in zip(recite(generator), (False, True), strict=True):
            added = tokenizer.encode(text + "\n" * is_labelled, add_special_tokens=False)
            tokens += added
            labelled += [is_labelled] * len(added)
    return Example(f"table:{number}", KIND, tuple(tokens), tuple(labelled))
