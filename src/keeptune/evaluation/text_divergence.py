"""Token loss of base and tuned on fixed texts, and the KL divergence between their predictions there.

Reading scores only show what the questions ask for. These two measures need no questions: the loss on general text
before and after tuning, and KL(tuned ‖ base) on general text and on prompts of the skill. Base and tuned are one model
with its adapter off and on, so both see the same tokens in the same batches. The divergence on answers that the tuned
model writes itself is in answer_divergence.py.
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
from keeptune.evaluation.statistics import FloatArray, weighted_mean
from keeptune.files import Record
from keeptune.models import adapters
from keeptune.models.output_layer import OutputLayer, output_layer
from keeptune.prompts.template import encode_prompt
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states
from keeptune.training.loss import logit_chunks

SKILL = "skill"
TEXT_KINDS = (GENERAL, SKILL)
"""Kinds of text: general text without relation to the skill, and prompts of the skill."""

SKILL_PROMPTS = 100
"""Number of test questions whose prompts are compared. That is enough, because each has dozens of tokens."""

TEXT_TOKENS = 512
"""Maximum number of tokens per text. Longer texts are cut, so that whole books need no more memory than paragraphs."""

_BATCH_TOKENS = 2048


@torch.inference_mode()
def measure_text_divergence(tuned: Any, scale: float, tokenizer: Any, texts: Sequence[PlainText]) -> list[Record]:
    """Token losses of both models and their divergence: one record per text, with sums in nats.

    The records are in the order of the texts. Texts of a single token are skipped. All tokens but the first have a
    loss; `predicted` is their number. The divergence is taken after every token. After the last one, the answer to a
    prompt would begin.
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
        for index, base_row, tuned_row in zip(batch, base_states, tuned_states, strict=True):
            ids = torch.tensor(rows[index], device=base_row.device)
            losses = _losses_and_divergence(output_layer(tuned), base_row, tuned_row, ids)
            records[index] = {
                **texts[index]._asdict(),
                "tokens": len(ids),
                "predicted": len(ids) - 1,
                **dict(zip(("base_nll", "tuned_nll", "kl"), losses, strict=True)),
            }
    return records


def _losses_and_divergence(head: OutputLayer, base: Tensor, tuned: Tensor, ids: Tensor) -> tuple[float, float, float]:
    """Token losses of base and tuned and KL(tuned ‖ base) = Σ p_tuned · log(p_tuned / p_base), summed over a row.

    Logits are computed for a few tokens at a time. Shapes: base, tuned (at least tokens, hidden_size); ids (tokens,).
    """
    totals = torch.zeros(3, dtype=torch.float64)
    for part in logit_chunks(len(ids), len(head.weight)):
        base_log, tuned_log = (
            functional.log_softmax(head(states[part]), -1, dtype=torch.float32) for states in (base, tuned)
        )
        targets = ids[part.start + 1 : part.stop + 1]
        for place, log_probabilities in enumerate((base_log, tuned_log)):
            totals[place] += functional.nll_loss(log_probabilities[: len(targets)], targets, reduction="sum").item()
        totals[2] += functional.kl_div(base_log, tuned_log, reduction="sum", log_target=True).item()
    base_nll, tuned_nll, divergence = totals.tolist()
    # Rounding can make the divergence of two equal distributions slightly negative.
    return base_nll, tuned_nll, max(divergence, 0.0)


def summarize_loss(records: Sequence[Record], resamples: int, seed: int) -> Record | None:
    """Loss on general text, base and tuned, and its change, in nats per token; None if it was not measured."""
    texts = [record for record in records if record["what"] == GENERAL]
    if not texts:
        return None
    tokens, base, tuned = (_column(texts, name) for name in ("predicted", "base_nll", "tuned_nll"))
    change = weighted_mean(tuned - base, tokens, resamples=resamples, seed=seed)
    return {
        "n": len(texts),
        "tokens": int(tokens.sum()),
        "base": float(base.sum() / tokens.sum()),
        "tuned": float(tuned.sum() / tokens.sum()),
        "difference": asdict(change),
    }


def summarize_divergence(records: Sequence[Record], text_kind: str, resamples: int, seed: int) -> Record | None:
    """KL(tuned ‖ base) in nats per token on texts of one kind; None if it was not measured."""
    texts = [record for record in records if record["what"] == text_kind]
    if not texts:
        return None
    tokens = _column(texts, "tokens")
    mean = weighted_mean(_column(texts, "kl"), tokens, resamples=resamples, seed=seed)
    return {"n": len(texts), "tokens": int(tokens.sum()), **asdict(mean)}


def _column(records: Sequence[Record], name: str) -> FloatArray:
    return np.array([record[name] for record in records], dtype=np.float64)
