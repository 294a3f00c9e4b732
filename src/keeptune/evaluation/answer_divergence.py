"""KL(tuned ‖ base) on answers that the tuned model writes itself.

Forgetting follows this quantity more closely than norms or ranks of the update (RL's Razor, arXiv 2509.04259). The
tuned model answers skill prompts and chat prompts, greedily and sampled at temperature 1. The divergence is summed over
the whole vocabulary at every token of the answer, its end token included. The divergence on fixed texts is in
text_divergence.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.model_pair import VARIANTS, Pair
from keeptune.evaluation.statistics import Estimate, weighted_mean
from keeptune.evaluation.suite.loader import Size
from keeptune.files import Record
from keeptune.generation.engine import Answer, Generator, never_stop
from keeptune.models.output_layer import OutputLayer
from keeptune.models.prepacked_linear import packed_weights
from keeptune.prompts.chat import ChatLayout
from keeptune.prompts.chat_prompt import turn_end
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states
from keeptune.training.loss import logit_chunks

PromptSource = Literal["skill", "chat"]
Mode = Literal["greedy", "sampled"]
SOURCES: tuple[PromptSource, ...] = ("skill", "chat")
MODES: tuple[Mode, ...] = ("greedy", "sampled")

BATCH_TOKENS = 2048

PROMPTS: dict[Size, int] = {"quick": 8, "standard": 32, "full": 100}
"""Number of prompts per source, by the size of the suite."""

CHAT_TOKENS = 32
"""Maximum number of tokens of an answer to a chat prompt."""


@dataclass(frozen=True, slots=True)
class DivergencePrompt:
    """A prompt that the tuned model answers. `budget` is the maximum number of tokens of the answer."""

    id: str
    source: PromptSource
    text: str
    tokens: tuple[int, ...]
    budget: int


def chat_prompts(layout: ChatLayout, limit: int) -> list[DivergencePrompt]:
    """The first `limit` prompts of the suite's chat ability."""
    items = ABILITIES["chat"].items("final", "full")[:limit]
    texts = [layout.conversation(item.messages) for item in items]
    return [
        DivergencePrompt(item.id, "chat", text, tuple(layout.tokens(text)), CHAT_TOKENS)
        for item, text in zip(items, texts, strict=True)
    ]


def measure_answer_divergence(pair: Pair, prompts: Sequence[DivergencePrompt], seed: int) -> list[Record]:
    """One record per prompt and mode: the tuned model's answer and its divergence from the base, summed in nats.

    A divergence that is not a finite number becomes None. Empty answers have no record.

    Raises:
        ValueError: if base and tuned use different tokens; check `pair.differing_tokens` first.
    """
    if pair.differing_tokens:
        raise ValueError(pair.differing_tokens)
    records: list[Record] = []
    rows: list[tuple[list[int], int]] = []
    with pair.using("tuned") as subject, packed_weights(subject.generator.model):
        tokenizer = subject.generator.tokenizer
        for mode in MODES:
            answers = _answers(subject.generator, prompts, mode, seed)
            for prompt, answer in zip(prompts, answers, strict=True):
                answer_tokens = tokenizer.encode(answer.text, add_special_tokens=False)
                end = turn_end(tokenizer) if answer.stopped else []
                rows.append(([*prompt.tokens, *answer_tokens, *end], len(prompt.tokens)))
                records.append(
                    {
                        "id": prompt.id,
                        "what": prompt.source,
                        "mode": mode,
                        "prompt": prompt.text,
                        "output": answer.text,
                    }
                )
    lengths = [len(tokens) for tokens, _ in rows]
    for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
        for index, (count, nats) in zip(batch, _divergences(pair, [rows[index] for index in batch]), strict=True):
            records[index] |= {"tokens": count, "kl": nats}
    return [record for record in records if record["tokens"]]


def summarize(records: Sequence[Record], source: PromptSource, mode: Mode, resamples: int, seed: int) -> Record | None:
    """The mean divergence in nats per token, with its 95 % interval from a bootstrap over answers.

    None if there are no such records, or if a divergence is not a finite number.
    """
    chosen = [record for record in records if (record["what"], record["mode"]) == (source, mode)]
    if not chosen or any(record["kl"] is None for record in chosen):
        return None
    tokens = np.array([record["tokens"] for record in chosen], np.float64)
    nats = np.array([record["kl"] for record in chosen], np.float64)
    mean: Estimate = weighted_mean(nats, tokens, resamples=resamples, seed=seed)
    return {
        "n": len(chosen),
        "tokens": int(tokens.sum()),
        "point": mean.point,
        "low95": mean.low95,
        "high95": mean.high95,
    }


def _answers(generator: Generator, prompts: Sequence[DivergencePrompt], mode: Mode, seed: int) -> list[Answer]:
    tokens, budgets = [prompt.tokens for prompt in prompts], [prompt.budget for prompt in prompts]
    if mode == "sampled":
        return generator.sample(tokens, budgets, seed)
    return generator.answer(tokens, budgets, never_stop)


@torch.inference_mode()
def _divergences(pair: Pair, rows: Sequence[tuple[list[int], int]]) -> list[tuple[int, float | None]]:
    """KL(tuned ‖ base) = Σ p_tuned · log(p_tuned / p_base) of each row, as (number of tokens, nats).

    `rows` are (tokens, start); the sum runs over the tokens from `start` on.
    """
    states: dict[str, list[Tensor]] = {}
    heads: dict[str, OutputLayer] = {}
    for variant in VARIANTS:
        with pair.using(variant) as subject:
            heads[variant] = subject.generator.head
            states[variant] = _answer_states(subject.generator, rows)
    divergences: list[tuple[int, float | None]] = []
    for base_states, tuned_states in zip(states["base"], states["tuned"], strict=True):
        nats = 0.0
        for part in logit_chunks(len(tuned_states), len(heads["tuned"].weight)):
            base, tuned = (
                functional.log_softmax(heads[variant](row[part]), -1, dtype=torch.float32)
                for variant, row in (("base", base_states), ("tuned", tuned_states))
            )
            nats += functional.kl_div(base, tuned, reduction="sum", log_target=True).item()
        # Rounding can make the divergence of two equal distributions slightly negative.
        divergences.append((len(tuned_states), max(nats, 0.0) if isfinite(nats) else None))
    return divergences


def _answer_states(generator: Generator, rows: Sequence[tuple[list[int], int]]) -> list[Tensor]:
    """The hidden states that predict the tokens of each answer. Shapes: (answer tokens, hidden_size) each."""
    hidden = hidden_states(generator.model, [tokens for tokens, _ in rows])
    return [states[start - 1 : len(tokens) - 1] for states, (tokens, start) in zip(hidden, rows, strict=True)]
