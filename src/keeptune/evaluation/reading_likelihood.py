"""How likely the right answer to a reading question is to a model, whatever form it would have answered in itself.

A base that never learned to answer in a few words scores nothing, and nothing can be lost of that; but it can still
find the reference answer likely or unlikely. Each passage is read once, with its questions and reference answers one
after the other, as practice texts are: so the text says what form is wanted, to base and tuned alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from keeptune.data.reading_passages import encode_passage
from keeptune.generation.engine import Generator
from keeptune.grading.squad import ReadingItem
from keeptune.training.batches import make_batches
from keeptune.training.loss import logit_chunks
from keeptune.training.padding import pad_rows

BATCH_TOKENS = 2048


@torch.inference_mode()
def answer_nll(generator: Generator, items: Sequence[ReadingItem]) -> list[float]:
    """The mean negative log-likelihood of the tokens of each item's first answer, in nats, in the order of the items.

    It follows the passage and the questions and answers before it. The model is used as it stands: adapter on or off.
    """
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.context, []).append(index)
    places = list(groups.values())
    passages = [encode_passage([items[index] for index in place], generator.tokenizer) for place in places]
    lengths = [len(passage.tokens) for passage in passages]
    found = [0.0] * len(items)
    for batch in make_batches(sorted(range(len(places)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
        for row, losses in zip(batch, _losses(generator, [passages[row].tokens for row in batch]), strict=True):
            for index, answer in zip(places[row], passages[row].answers, strict=True):
                # The loss at a position is that of the token behind it.
                found[index] = float(losses[answer.start - 1 : answer.stop - 1].mean())
    return found


def _losses(generator: Generator, rows: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """The loss of every token but the first, row by row, in float32. Rows are padded on the right, which causal
    attention never sees."""
    ids = pad_rows(rows, generator.head.weight.device)
    hidden = generator.decoder(input_ids=ids, use_cache=False).last_hidden_state
    return [
        -token_log_probabilities(generator.head, states[: len(row) - 1], own[1 : len(row)])
        for states, own, row in zip(hidden, ids, rows, strict=True)
    ]


def token_log_probabilities(head: Any, states: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token, in float32, given the hidden state before it.

    shapes: states (tokens, width); following and result (tokens,).
    """
    parts = []
    for part in logit_chunks(len(states), len(head.weight)):
        # Told the format, log_softmax reads the logits once; converted before, they took twice the time.
        known = functional.log_softmax(head(states[part]), -1, dtype=torch.float32)
        parts.append(known.gather(1, following[part, None]).squeeze(1))
    return torch.cat(parts)
