"""Exports a run's training rows and reading questions as MindRecord files in the layouts of the contest's files.

A training row has `seq_length + 1` tokens, because MindFormers feeds all but the last and predicts all but the first.
`input_ids` is the prompt and the solution with begin and end tokens, then padding. `labels` is the same, with -100 for
tokens without loss. The contest's script wraps each row in a fixed conversation; this export uses the run's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.score import ScoreSection
from keeptune.grading.contest_reading import select_contest_items
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.mindspore.record_set import Layout, Row, SkippedRow, WrittenSet, write_set
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.prompts.reading import question_text
from keeptune.training.batches import TokenizedExample

IGNORED = -100
"""The label of a token without loss, `ignore_token_id` in MindFormers."""

_LLAMA3_PADDING = "<|reserved_special_token_0|>"


def export_training(
    examples: Sequence[TokenizedExample], tokenizer: Any, prompt: AnyPrompt, seq_length: int, out: Path, shards: int = 1
) -> WrittenSet:
    """Writes training rows in the layout of the contest's train-fastchat256, under the run's prompt.

    Raises:
        DataError: when no row fits.
        RunError: when `out` exists or cannot be written.
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


def export_reading(score: ScoreSection, tokenizer: Any, seq_length: int, out: Path, shards: int = 1) -> WrittenSet:
    """Writes a recipe's reading questions in the layout of the contest's squad8192, for MindFormers' evaluation.

    The file holds the first question of each passage. `labels` is the answer; both fields are padded with the padding
    token.

    Raises:
        DataError: when the questions cannot be read, or none fits.
        RunError: when `out` exists or cannot be written.
    """
    padding = padding_token(tokenizer)
    items = select_contest_items(load_reading_items(score.retained, score.retained_limit))
    rows = [reading_row(item, tokenizer, seq_length) for item in items]
    about = {"seq_length": seq_length, "pad_token_id": padding, "questions": score.retained}
    layout = Layout(seq_length, (padding, padding), "lm-schema")
    return write_set(out, f"reading-{seq_length}", rows, layout, about, shards)


def padding_token(tokenizer: Any) -> int:
    """The padding token's id: the tokenizer's; the contest's choice for Llama 3, which has none; or the end token."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.get_vocab().get(_LLAMA3_PADDING, tokenizer.eos_token_id))


def training_row(example: TokenizedExample, seq_length: int, padding: int) -> Row | SkippedRow:
    """An example as a row, or as a skipped row with the reason."""
    tokens = example.tokens
    if len(tokens) > seq_length + 1:
        return SkippedRow(example.name, f"longer than seq_length {seq_length} + 1", len(tokens))
    # MindFormers masks padding by its id: it would ignore this token and the loss after it.
    if padding in tokens[:-1]:
        return SkippedRow(example.name, f"contains the padding token {padding}", len(tokens))
    if not any(example.loss_mask[1:]):
        return SkippedRow(example.name, "no token with loss", len(tokens))
    labels = [token if has_loss else IGNORED for token, has_loss in zip(tokens, example.loss_mask, strict=True)]
    return Row(example.name, tokens, labels)


def reading_row(item: ReadingItem, tokenizer: Any, seq_length: int) -> Row | SkippedRow:
    """A question as a row, or as a skipped row with the reason. As in the contest, it has no begin and no end token."""
    tokens, answer = (
        tokenizer.encode(text, add_special_tokens=False)
        for text in (question_text(item.context, item.question, "contest"), item.answers[0])
    )
    if max(len(tokens), len(answer)) > seq_length:
        return SkippedRow(item.question_id, f"longer than seq_length {seq_length}", max(len(tokens), len(answer)))
    return Row(item.question_id, tokens, answer)
