"""Practice for what a skill's procedures look up by heart, mixed into training as a share of its tokens.

A procedure meets each of nine hundred facts once in a few hundred problems. Lines of the table alone show a fact for
the price of a dozen tokens, where a problem takes a thousand to ask for two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from keeptune.prompt.template import encode_prompt
from keeptune.skill.base import Spelling
from keeptune.skill.spelling import spell
from keeptune.train.batches import Example

KIND = "table"

ROW_LINES = 12
"""Lines of a row: enough to fill a batch with few rows, too few for neighbours in it to tell a line away."""

Recite = Callable[[random.Random], tuple[str, str]]
"""What is given of a random line, and what is to be written behind it."""


def table(recite: Recite, tokenizer: Any, tokens: int, seed: int, spelling: Spelling = "plain") -> list[Example]:
    """Rows of at least `tokens` tokens in all, labelled on what is to be written and on the ends of lines.

    Numbers are spelled as in the solutions that look them up.
    """
    generator = random.Random(f"{seed}/table")
    rows: list[Example] = []
    filled = 0
    while filled < tokens:
        lines = [recite(generator) for _ in range(ROW_LINES)]
        spelled = [(spell(f"{given}\n", spelling)[:-1], spell(f"{told}\n", spelling)) for given, told in lines]
        rows.append(_row(spelled, tokenizer, len(rows)))
        filled += len(rows[-1].tokens)
    return rows


def _row(lines: Sequence[tuple[str, str]], tokenizer: Any, number: int) -> Example:
    tokens = encode_prompt(tokenizer, "")  # a BOS, or nothing
    labelled = [False] * len(tokens)
    for line in lines:
        for text, is_labelled in zip(line, (False, True), strict=True):
            added = tokenizer.encode(text, add_special_tokens=False)
            tokens += added
            labelled += [is_labelled] * len(added)
    return Example(f"table:{number}", KIND, tuple(tokens), tuple(labelled))
