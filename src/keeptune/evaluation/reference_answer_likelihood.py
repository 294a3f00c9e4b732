"""Likelihood of the reference answers to reading questions, whatever the model would answer itself.

A base model that never learned to answer in a few words scores 0, so its F1 and EM cannot show a loss. It may still
find the reference answers likely. Each passage is read once, with its questions and reference answers one after the
other, as in replayed reading texts. The text itself thus shows the expected form of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from keeptune.data.reading_passages import encode_passage
from keeptune.evaluation.continuation_likelihood import token_log_probabilities
from keeptune.generation.engine import Generator
from keeptune.grading.squad import ReadingItem
from keeptune.training.batches import make_batches

BATCH_TOKENS = 2048


@torch.inference_mode()
def answer_nll(generator: Generator, items: Sequence[ReadingItem]) -> list[float]:
    """Negative log-likelihood of each item's first reference answer, in nats per token, in the order of the items.

    The answer is conditioned on the passage and on the questions and answers before it. The model is used in its
    current state: adapter on, off or scaled.
    """
    indices_by_passage: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        indices_by_passage.setdefault(item.context, []).append(index)
    indices = list(indices_by_passage.values())
    passages = [encode_passage([items[index] for index in group], generator.tokenizer) for group in indices]
    lengths = [len(passage.tokens) for passage in passages]
    means = [0.0] * len(items)
    for batch in make_batches(sorted(range(len(indices)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
        losses_by_row = _token_losses(generator, [passages[row].tokens for row in batch])
        for row, losses in zip(batch, losses_by_row, strict=True):
            for index, answer in zip(indices[row], passages[row].answers, strict=True):
                # The loss at a position is that of the next token.
                means[index] = float(losses[answer.start - 1 : answer.stop - 1].mean())
    return means


def _token_losses(generator: Generator, rows: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """The loss of every token but the first, row by row, in float32. Shapes: (row length − 1,).

    Rows are padded on the right, where causal attention does not look.
    """
    width = max(map(len, rows))
    padded = [[*row, *(width - len(row)) * [0]] for row in rows]
    ids = torch.tensor(padded, device=generator.head.weight.device)
    hidden = generator.decoder(input_ids=ids, use_cache=False).last_hidden_state
    return [
        -token_log_probabilities(generator.head, states[: len(row) - 1], row_ids[1 : len(row)])
        for states, row_ids, row in zip(hidden, ids, rows, strict=True)
    ]
