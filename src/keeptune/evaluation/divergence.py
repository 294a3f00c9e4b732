"""How far tuning moved what a model predicts: its loss on held-out text, and its divergence from the base.

Reading scores only see what the questions ask for. These two ask for nothing: how well each next token of general text
is predicted before and after, and how much the predictions themselves differ (the KL divergence of the tuned model
from the base), on general text and on the skill's own prompts. Base and tuned are one model, with its adapter off
and on, so both see the same tokens in the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from keeptune.data.plain_texts import GENERAL, PlainText
from keeptune.evaluation.statistics import FloatArray, mean_of_parts
from keeptune.models import adapters
from keeptune.prompts.template import encode_prompt
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states
from keeptune.training.loss import logit_chunks

Record = dict[str, Any]

SKILL = "skill"
SORTS = (GENERAL, SKILL)
"""What a text is: general text that has nothing to do with the skill, or a prompt of the skill."""

SKILL_PROMPTS = 100
"""Of the test questions, the first so many are enough: each has dozens of tokens."""

TEXT_TOKENS = 512
"""Longer texts are cut, so that a file of whole books costs no more memory than one of paragraphs."""

_BATCH_TOKENS = 2048


@torch.inference_mode()
def score_drift(tuned: Any, scale: float, tokenizer: Any, texts: Sequence[PlainText]) -> list[Record]:
    """One record a text, in their order: the sums, in nats, of both models' token losses and of their divergence.

    `predicted` counts the tokens that have a loss, all but the first; the divergence is taken behind each of `tokens`,
    so also where the answer to a prompt would begin. A text of a single token predicts nothing and is left out.
    """
    encoded = [(text, encode_prompt(tokenizer, text.text)[:TEXT_TOKENS]) for text in texts]
    texts, rows = zip(*(pair for pair in encoded if len(pair[1]) > 1), strict=True)
    lengths = [len(row) for row in rows]
    records: list[Record] = [{}] * len(texts)
    for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, _BATCH_TOKENS):
        with adapters.scaled(tuned, 0.0):
            base_states = hidden_states(tuned, [rows[index] for index in batch])
        with adapters.scaled(tuned, scale):
            tuned_states = hidden_states(tuned, [rows[index] for index in batch])
        for index, before, after in zip(batch, base_states, tuned_states, strict=True):
            own = torch.tensor(rows[index], device=before.device)
            losses = _compared(tuned.get_output_embeddings(), before, after, own)
            records[index] = {
                **texts[index]._asdict(),
                "tokens": len(own),
                "predicted": len(own) - 1,
                **dict(zip(("base_nll", "tuned_nll", "kl"), losses, strict=True)),
            }
    return records


def _compared(head: Any, before: Tensor, after: Tensor, own: Tensor) -> tuple[float, float, float]:
    """Both models' token losses and KL(tuned ‖ base), summed over a row, from logits of a few tokens at a time.

    shapes: before, after (at least tokens, width); own (tokens,).
    """
    totals = torch.zeros(3, dtype=torch.float64)
    for here in logit_chunks(len(own), len(head.weight)):
        base, tuned = (
            functional.log_softmax(head(states[here]), -1, dtype=torch.float32) for states in (before, after)
        )
        following = own[here.start + 1 : here.stop + 1]
        for place, chances in enumerate((base, tuned)):
            totals[place] += functional.nll_loss(chances[: len(following)], following, reduction="sum").item()
        totals[2] += functional.kl_div(base, tuned, reduction="sum", log_target=True).item()
    base_nll, tuned_nll, divergence = totals.tolist()
    # Rounding can leave the divergence of two equal distributions a hair below zero.
    return base_nll, tuned_nll, max(divergence, 0.0)


def loss_summary(records: Sequence[Record], resamples: int, seed: int) -> Record | None:
    """The loss a token on general text, in nats, base and tuned, and its change; None where it was not measured."""
    texts = [record for record in records if record["what"] == GENERAL]
    if not texts:
        return None
    tokens, base, tuned = (_column(texts, name) for name in ("predicted", "base_nll", "tuned_nll"))
    change = mean_of_parts(tuned - base, tokens, resamples=resamples, seed=seed)
    return {
        "n": len(texts),
        "tokens": int(tokens.sum()),
        "base": float(base.sum() / tokens.sum()),
        "tuned": float(tuned.sum() / tokens.sum()),
        "difference": asdict(change),
    }


def divergence_summary(records: Sequence[Record], what: str, resamples: int, seed: int) -> Record | None:
    """KL(tuned ‖ base) a token, in nats, on texts of one sort; None where it was not measured."""
    texts = [record for record in records if record["what"] == what]
    if not texts:
        return None
    tokens = _column(texts, "tokens")
    mean = mean_of_parts(_column(texts, "kl"), tokens, resamples=resamples, seed=seed)
    return {"n": len(texts), "tokens": int(tokens.sum()), **asdict(mean)}


def _column(records: Sequence[Record], name: str) -> FloatArray:
    return np.array([record[name] for record in records], dtype=np.float64)
