"""Replay: rows that retain other abilities, mixed into training as a share of its tokens.

Sources are reading questions, plain texts, or the base model's own answers. A few percent of replay is the cheapest
known protection against forgetting (arXiv 2502.06042). The embedded passages were written for this project and share
nothing with the questions that measure retention. A recipe can name SQuAD files and text files instead.
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
from keeptune.training.batches import REPLAY_KIND, TokenizedExample

MAX_ROW_TOKENS = 1024
"""The maximum length of a replayed row: about the few-shot prompt of reading plus one passage of SQuAD."""

ReplaySource = Sequence[ReadingItem | str]
"""The items of a source: reading questions or texts."""

ReplayRows = Sequence[TokenizedExample]
"""Rows that need no further processing: answers that a model wrote (generation/self_answers.py)."""


def load_replay_source(source: str) -> ReplaySource:
    """The items of a replay source.

    Args:
        source: `embedded`, a SQuAD file (`.json`), or a plain text file whose texts are separated by empty lines.

    Raises:
        DataError: if the file cannot be read or has no items.
    """
    if source == "embedded":
        with resources.as_file(resources.files("keeptune.training") / "reading_practice.json") as path:
            return load_squad(path).items
    if source.endswith(".json"):
        return load_squad(Path(source)).items
    return [text.text for text in load_general_texts([source])]


def build_replay_examples(
    sources: Sequence[ReplaySource | ReplayRows], tokenizer: Any, tokens: int, max_tokens: int, seed: int
) -> list[TokenizedExample]:
    """Rows of at least `tokens` tokens in total, with an equal share from each source.

    Targets are the answers of reading questions, and whole texts. A row holds several passages, as the few-shot prompt
    of the reading evaluation does. The ability to retain is to find the answer in the last passage, and rows of one
    passage do not practice that. The passages of a source come in random order, and repeat when they run out.

    Args:
        sources: the items of each source, or complete rows.
        tokenizer: encodes the items.
        tokens: the number of tokens in total.
        max_tokens: the maximum length of a row. Longer passages are skipped, longer texts are split.
        seed: decides the order.

    Raises:
        DataError: if a source has no passage that fits.
    """
    rows: list[TokenizedExample] = []
    for number, items in enumerate(sources):
        generator = random.Random(f"{seed}/replay/{number}")
        rows += _rows(items, tokenizer, tokens / len(sources), min(max_tokens, MAX_ROW_TOKENS), generator)
    return rows


def _rows(
    items: ReplaySource | ReplayRows, tokenizer: Any, tokens: float, row_tokens: int, generator: random.Random
) -> list[TokenizedExample]:
    """Rows of one source, of at most `row_tokens` tokens each and at least `tokens` in total."""
    examples, complete = _encode_items(items, tokenizer, row_tokens, generator)
    fitting = [example for example in (*examples, *complete) if len(example.tokens) <= row_tokens]
    if tokens and not fitting:
        raise DataError(
            f"retain.replay: none of the {len(examples) + len(complete)} passages of a source has at most {row_tokens} "
            "tokens with its questions; raise data.max_tokens, name other files, or set retain.replay_share: 0"
        )
    # The last token only, because Llama 2's tokenizer puts a space before whatever it encodes.
    separator = tuple(tokenizer.encode("\n", add_special_tokens=False)[-1:])
    bos_tokens = len(encode_prompt(tokenizer, ""))  # the BOS token stands only at the beginning of a row
    rows: list[TokenizedExample] = []
    filled = 0
    while filled < tokens:
        generator.shuffle(fitting)
        for example in fitting:
            if filled >= tokens:
                break
            joined = _join(rows[-1], example, separator, bos_tokens) if rows and not complete else None
            if joined is not None and len(joined.tokens) <= row_tokens:
                filled += len(joined.tokens) - len(rows[-1].tokens)
                rows[-1] = joined
            else:
                filled += len(example.tokens)
                rows.append(example)
    return rows


def _encode_items(
    items: ReplaySource | ReplayRows, tokenizer: Any, row_tokens: int, generator: random.Random
) -> tuple[list[TokenizedExample], list[TokenizedExample]]:
    """The examples of texts and passages, which may share a row, and the rows that are already complete."""
    passages: dict[str, list[ReadingItem]] = {}
    examples: list[TokenizedExample] = []
    complete: list[TokenizedExample] = []
    for number, item in enumerate(items, start=1):
        if isinstance(item, TokenizedExample):
            complete.append(item)
        elif isinstance(item, str):
            examples += _text_examples(item, number, tokenizer, row_tokens)
        else:
            passages.setdefault(item.context, []).append(item)
    examples += [_passage_example(group, tokenizer, generator) for group in passages.values()]
    return examples, complete


def _join(
    row: TokenizedExample, passage: TokenizedExample, separator: tuple[int, ...], bos_tokens: int
) -> TokenizedExample:
    """A row with one more passage, after an empty line."""
    tokens = (*row.tokens, *separator, *passage.tokens[bos_tokens:])
    loss_mask = (*row.loss_mask, *(False for _ in separator), *passage.loss_mask[bos_tokens:])
    return TokenizedExample(row.name, REPLAY_KIND, tokens, loss_mask)


def _text_examples(text: str, number: int, tokenizer: Any, row_tokens: int) -> list[TokenizedExample]:
    """A text in parts of at most `row_tokens` tokens. All tokens are targets but the first, which has no context."""
    bos = tuple(encode_prompt(tokenizer, ""))
    tokens, size = encode_prompt(tokenizer, text)[len(bos) :], row_tokens - len(bos)
    parts = [(*bos, *tokens[start : start + size]) for start in range(0, len(tokens), max(size, 1))]
    skipped = max(1, len(bos))
    return [
        TokenizedExample(
            f"practice:text {number}", REPLAY_KIND, part, (False,) * skipped + (True,) * (len(part) - skipped)
        )
        for part in parts
        if len(part) > skipped
    ]


def _passage_example(items: list[ReadingItem], tokenizer: Any, generator: random.Random) -> TokenizedExample:
    """A passage with its questions in random order; the answers are the targets."""
    questions = generator.sample(items, k=len(items))
    passage = encode_passage(questions, tokenizer)
    loss_mask = [False] * len(passage.tokens)
    for answer in passage.answers:
        # The line end is a target, too: with it the model ends its answer.
        for position in range(answer.start, answer.stop + 1):
            loss_mask[position] = True
    return TokenizedExample(f"practice:{questions[0].question_id}", REPLAY_KIND, passage.tokens, tuple(loss_mask))
