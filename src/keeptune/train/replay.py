"""Practice for what is to be kept: reading questions, mixed into training as a share of its tokens.

A few percent of replay is the cheapest known guard against forgetting (arXiv 2502.06042). The passages are the
project's own and share nothing with the set that retention is measured on; a SQuAD file can be given instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from keeptune.score.likelihood import laid_out
from keeptune.score.reading import ReadingItem, load_squad
from keeptune.train.batches import Example

KIND = "reading"


def practice_items(source: str) -> list[ReadingItem]:
    """The questions to practise on: from a SQuAD file, or the embedded ones."""
    if source != "embedded":
        return load_squad(Path(source)).items
    with resources.as_file(resources.files("keeptune.train") / "reading_practice.json") as path:
        return load_squad(path).items


def replay(items: Sequence[ReadingItem], tokenizer: Any, tokens: int, max_tokens: int, seed: int) -> list[Example]:
    """Practice examples of at least `tokens` tokens in all, whole passages at a time, labelled on answers alone.

    Passages come in a random order, and again from the start when they run out. Those over `max_tokens` are left out.
    """
    passages: dict[str, list[ReadingItem]] = {}
    for item in items:
        passages.setdefault(item.context, []).append(item)
    generator = random.Random(f"{seed}/replay")
    examples = [_example(group, tokenizer, generator) for group in passages.values()]
    fitting = [example for example in examples if len(example.tokens) <= max_tokens]
    chosen: list[Example] = []
    filled = 0
    while fitting and filled < tokens:
        generator.shuffle(fitting)
        for example in fitting:
            if filled >= tokens:
                break
            chosen.append(example)
            filled += len(example.tokens)
    return chosen


def _example(items: list[ReadingItem], tokenizer: Any, generator: random.Random) -> Example:
    asked = generator.sample(items, k=len(items))
    passage = laid_out(asked, tokenizer)
    labelled = [False] * len(passage.tokens)
    for answer in passage.answers:
        # The line end is part of what is learnt: it is how the model says that it is done.
        for place in range(answer.start, answer.stop + 1):
            labelled[place] = True
    return Example(f"practice:{asked[0].question_id}", KIND, passage.tokens, tuple(labelled))
