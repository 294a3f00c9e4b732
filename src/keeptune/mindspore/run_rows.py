"""A run's training rows and its reading questions as MindFormers takes them, in the layouts of the contest's own files.

Training rows are `seq_length + 1` tokens, because MindFormers reads all but the last and predicts all but the first:
`input_ids` is prompt and solution with their begin and end tokens, then padding; `labels` is the same with -100 where
nothing is to be learned. The contest's script put a conversation of its own around each row; here the prompt is the
run's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.score import ScoreSection
from keeptune.grading.contest_reading import select_contest_items
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.mindspore.record_set import Layout, LeftOut, Row, Written, write_set
from keeptune.prompts.reading import question_text
from keeptune.prompts.template import Prompt
from keeptune.training.batches import Example

IGNORED = -100
"""The label of a token that is not learned, `ignore_token_id` in MindFormers."""

_LLAMA3_PADDING = "<|reserved_special_token_0|>"


def export_training(
    examples: Sequence[Example], tokenizer: Any, prompt: Prompt, seq_length: int, out: Path, shards: int = 1
) -> Written:
    """Training rows in the layout of the contest's train-fastchat256, but for its prompt.

    errors: RunError when `out` is there or cannot be written; DataError when no row is left.
    """
    padding = padding_token(tokenizer)
    rows = [training_row(example, seq_length, padding) for example in examples]
    about = {
        "seq_length": seq_length,
        "pad_token_id": padding,
        "ignore_token_id": IGNORED,
        "prompt": {"template": prompt.template, "sha256": prompt.sha256},
    }
    layout = Layout(seq_length + 1, (padding, IGNORED), "qa")
    return write_set(out, f"train-{seq_length}", rows, layout, about, shards)


def export_reading(score: ScoreSection, tokenizer: Any, seq_length: int, out: Path, shards: int = 1) -> Written:
    """The reading questions of a recipe in the layout of the contest's squad8192, with which MindFormers
    scores: the first question of each passage; `labels` is the answer, both fields filled with the padding token.

    errors: as above, and DataError when the questions cannot be read.
    """
    padding = padding_token(tokenizer)
    items = select_contest_items(load_reading_items(score.retained, score.retained_limit))
    rows = [reading_row(item, tokenizer, seq_length) for item in items]
    about = {"seq_length": seq_length, "pad_token_id": padding, "questions": score.retained}
    layout = Layout(seq_length, (padding, padding), "lm-schema")
    return write_set(out, f"reading-{seq_length}", rows, layout, about, shards)


def padding_token(tokenizer: Any) -> int:
    """The id to fill rows with: the tokenizer's own; for Llama 3, which has none, the contest's; else the end token."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.get_vocab().get(_LLAMA3_PADDING, tokenizer.eos_token_id))


def training_row(example: Example, seq_length: int, padding: int) -> Row | LeftOut:
    """An example as a row, or why no row can hold it."""
    tokens = example.tokens
    if len(tokens) > seq_length + 1:
        return LeftOut(example.name, f"longer than seq_length {seq_length} + 1", len(tokens))
    # MindFormers finds padding by its token: it would neither attend to this one nor learn what follows it.
    if padding in tokens[:-1]:
        return LeftOut(example.name, f"holds the padding token {padding}", len(tokens))
    if not any(example.labelled[1:]):
        return LeftOut(example.name, "no token to learn", len(tokens))
    labels = [token if learned else IGNORED for token, learned in zip(tokens, example.labelled, strict=True)]
    return Row(example.name, tokens, labels)


def reading_row(item: ReadingItem, tokenizer: Any, seq_length: int) -> Row | LeftOut:
    """A question as a row, or why no row can hold it. As in the contest there is no begin token and no end token."""
    tokens, answer = (
        tokenizer.encode(text, add_special_tokens=False)
        for text in (question_text(item.context, item.question, "contest"), item.answers[0])
    )
    if max(len(tokens), len(answer)) > seq_length:
        return LeftOut(item.question_id, f"longer than seq_length {seq_length}", max(len(tokens), len(answer)))
    return Row(item.question_id, tokens, answer)
