"""Practice for what is to be kept: reading questions, plain text or the base's own answers, mixed into training as a
share of its tokens.

A few percent of replay is the cheapest known guard against forgetting (arXiv 2502.06042). The passages are the
project's own and share nothing with the set that retention is measured on; SQuAD files and texts can be given instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from keeptune.data.plain_texts import load_general_texts
from keeptune.data.reading_passages import encode_passage
from keeptune.errors import DataError
from keeptune.grading.squad import ReadingItem, load_squad
from keeptune.prompts.template import encode_prompt
from keeptune.training.batches import Example

KIND = "reading"

ROW_TOKENS = 1024
"""The longest row of passages: about as many tokens as the few-shot prompt and a passage of SQuAD."""


Practice = Sequence[ReadingItem | str]
"""What a source has to practise on: questions, or texts."""

Rows = Sequence[Example]
"""Rows that are complete as they are: the base's own answers (own_answers.py)."""


def practice(source: str) -> Practice:
    """The questions of a SQuAD file (`.json`), or the embedded ones; or the texts of a file of plain text, which empty
    lines part.

    errors: DataError when the file cannot be read, or holds none.
    """
    if source == "embedded":
        with resources.as_file(resources.files("keeptune.training") / "reading_practice.json") as path:
            return load_squad(path).items
    if source.endswith(".json"):
        return load_squad(Path(source)).items
    return [text.text for text in load_general_texts([source])]


def replay(
    sources: Sequence[Practice | Rows], tokenizer: Any, tokens: int, max_tokens: int, seed: int
) -> list[Example]:
    """Rows of at least `tokens` tokens in all, from each source the same share, labelled on answers or whole texts.

    A row holds several passages, as the few-shot prompt does that measures reading: what has to be kept is to look the
    answer up in the last of them, and rows of one passage each do not practise that. Passages come in a random order,
    and again from the start when they run out. Those over `max_tokens` are left out; longer texts come in parts.

    errors: DataError where no passage of a source is left.
    """
    rows: list[Example] = []
    for number, items in enumerate(sources):
        generator = random.Random(f"{seed}/replay/{number}")
        rows += _rows(items, tokenizer, tokens / len(sources), min(max_tokens, ROW_TOKENS), generator)
    return rows


def _rows(
    items: Practice | Rows, tokenizer: Any, tokens: float, row_tokens: int, generator: random.Random
) -> list[Example]:
    passages: dict[str, list[ReadingItem]] = {}
    examples: list[Example] = []
    complete: list[Example] = []
    for number, item in enumerate(items, start=1):
        if isinstance(item, Example):
            complete.append(item)
        elif isinstance(item, str):
            examples += _text_examples(item, number, tokenizer, row_tokens)
        else:
            passages.setdefault(item.context, []).append(item)
    examples += [_example(group, tokenizer, generator) for group in passages.values()]
    fitting = [example for example in (*examples, *complete) if len(example.tokens) <= row_tokens]
    if tokens and not fitting:
        raise DataError(
            f"retain.replay: of {len(examples) + len(complete)} passages in one source none has at most {row_tokens} "
            "tokens with its questions; raise data.max_tokens, give other files, or set retain.replay_share: 0"
        )
    # The last token, because Llama 2's tokenizer puts a space before whatever it encodes.
    blank_line = tuple(tokenizer.encode("\n", add_special_tokens=False)[-1:])
    opening = len(encode_prompt(tokenizer, ""))  # a BOS, which stands at the beginning of a row alone
    rows: list[Example] = []
    filled = 0
    while filled < tokens:
        generator.shuffle(fitting)
        for example in fitting:
            if filled >= tokens:
                break
            joined = _joined(rows[-1], example, blank_line, opening) if rows and not complete else None
            if joined is not None and len(joined.tokens) <= row_tokens:
                filled += len(joined.tokens) - len(rows[-1].tokens)
                rows[-1] = joined
            else:
                filled += len(example.tokens)
                rows.append(example)
    return rows


def _joined(row: Example, passage: Example, blank_line: tuple[int, ...], opening: int) -> Example:
    """A row with one passage more, behind an empty line."""
    tokens = (*row.tokens, *blank_line, *passage.tokens[opening:])
    labelled = (*row.labelled, *(False for _ in blank_line), *passage.labelled[opening:])
    return Example(row.name, KIND, tokens, labelled)


def _text_examples(text: str, number: int, tokenizer: Any, row_tokens: int) -> list[Example]:
    """A text in parts of so many tokens; all are learnt but the first, which nothing stands before."""
    opening = tuple(encode_prompt(tokenizer, ""))
    tokens, size = encode_prompt(tokenizer, text)[len(opening) :], row_tokens - len(opening)
    parts = [(*opening, *tokens[start : start + size]) for start in range(0, len(tokens), max(size, 1))]
    unlearnt = max(1, len(opening))
    return [
        Example(f"practice:text {number}", KIND, part, (False,) * unlearnt + (True,) * (len(part) - unlearnt))
        for part in parts
        if len(part) > unlearnt
    ]


def _example(items: list[ReadingItem], tokenizer: Any, generator: random.Random) -> Example:
    asked = generator.sample(items, k=len(items))
    passage = encode_passage(asked, tokenizer)
    labelled = [False] * len(passage.tokens)
    for answer in passage.answers:
        # The line end is part of what is learnt: it is how the model says that it is done.
        for place in range(answer.start, answer.stop + 1):
            labelled[place] = True
    return Example(f"practice:{asked[0].question_id}", KIND, passage.tokens, tuple(labelled))
