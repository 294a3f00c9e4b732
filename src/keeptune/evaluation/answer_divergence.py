"""KL(tuned ‖ base) on the tuned model's own answers: how far tuning moved it where it actually goes.

Forgetting follows this quantity more closely than norms or ranks of the update (RL's Razor, arXiv 2509.04259). Answers
are greedy and sampled (temperature 1), to skill prompts and to chat prompts; the divergence is summed over the whole
vocabulary at every token of the answer, its end token included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.model_pair import WHO, Pair
from keeptune.evaluation.statistics import Estimate, mean_of_parts
from keeptune.evaluation.suite.loader import Size
from keeptune.generation.engine import Generator, at_the_end
from keeptune.models.prepacked_linear import packed_weights
from keeptune.prompts.chat import ChatLayout
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states
from keeptune.training.loss import logit_chunks

Record = dict[str, Any]
What = Literal["skill", "chat"]
Mode = Literal["greedy", "sampled"]
SOURCES: tuple[What, ...] = ("skill", "chat")
MODES: tuple[Mode, ...] = ("greedy", "sampled")

BATCH_TOKENS = 2048

PROMPTS: dict[Size, int] = {"quick": 8, "standard": 32, "full": 100}
"""Prompts of each source whose answers are compared, by the size of the suite."""

CHAT_TOKENS = 32
"""The most tokens of an answer to a chat prompt."""


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt as tokens, with the bound on the answer's tokens."""

    id: str
    what: What
    prompt: str
    tokens: tuple[int, ...]
    budget: int


def chat_prompts(layout: ChatLayout, limit: int) -> list[AnsweredPrompt]:
    """The first prompts of the suite's chat ability."""
    ability = ABILITIES["chat"]
    items = ability.items("final", "full")[:limit]
    rendered = [layout.conversation(item.messages) for item in items]
    return [
        AnsweredPrompt(item.id, "chat", text, tuple(layout.tokens(text)), CHAT_TOKENS)
        for item, text in zip(items, rendered, strict=True)
    ]


def answer_divergence(pair: Pair, prompts: Sequence[AnsweredPrompt], seed: int) -> list[Record]:
    """One record per prompt and mode: the tuned model's answer and its divergence from the base, in nats; None where
    it is not a finite number.

    Raises:
        ValueError: when base and tuned do not share their tokens; ask `pair.differing_tokens` before.
    """
    if pair.differing_tokens:
        raise ValueError(pair.differing_tokens)
    records, rows = [], []
    with pair.using("tuned") as subject, packed_weights(subject.generator.model):
        generator = subject.generator
        for mode in MODES:
            answers = _answers(generator, prompts, mode, seed)
            for own, answer in zip(prompts, answers, strict=True):
                after = generator.tokenizer.encode(answer.text, add_special_tokens=False)
                end = [generator.tokenizer.eos_token_id] if answer.stopped else []
                rows.append(([*own.tokens, *after, *end], len(own.tokens)))
                records.append(
                    {"id": own.id, "what": own.what, "mode": mode, "prompt": own.prompt, "output": answer.text}
                )
    lengths = [len(tokens) for tokens, _ in rows]
    for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
        for index, (count, nats) in zip(batch, _divergences(pair, [rows[index] for index in batch]), strict=True):
            records[index] |= {"tokens": count, "kl": nats}
    return [record for record in records if record["tokens"]]


def summary(records: Sequence[Record], what: What, mode: Mode, resamples: int, seed: int) -> Record | None:
    """The mean divergence in nats per token with its interval over answers; None where nothing was measured, or
    something is not a finite number."""
    own = [record for record in records if (record["what"], record["mode"]) == (what, mode)]
    if not own or any(record["kl"] is None for record in own):
        return None
    tokens = np.array([record["tokens"] for record in own], np.float64)
    nats = np.array([record["kl"] for record in own], np.float64)
    mean: Estimate = mean_of_parts(nats, tokens, resamples=resamples, seed=seed)
    return {"n": len(own), "tokens": int(tokens.sum()), "point": mean.point, "low95": mean.low95, "high95": mean.high95}


def _answers(generator: Generator, prompts: Sequence[AnsweredPrompt], mode: Mode, seed: int) -> list[Any]:
    tokens, budgets = [own.tokens for own in prompts], [own.budget for own in prompts]
    if mode == "sampled":
        return list(generator.sample(tokens, budgets, seed))
    return list(generator.answer(tokens, budgets, at_the_end))


@torch.inference_mode()
def _divergences(pair: Pair, rows: Sequence[tuple[list[int], int]]) -> list[tuple[int, float | None]]:
    """(tokens, nats) of each row, over the tokens from the given place on."""
    states: dict[str, list[Tensor]] = {}
    heads: dict[str, Any] = {}
    for who in WHO:
        with pair.using(who) as subject:
            heads[who] = subject.generator.head
            states[who] = _answer_states(subject.generator, rows)
    made: list[tuple[int, float | None]] = []
    for before, after in zip(states["base"], states["tuned"], strict=True):
        total = 0.0
        for part in logit_chunks(len(after), len(heads["tuned"].weight)):
            base, tuned = (
                functional.log_softmax(heads[who](own[part]), -1, dtype=torch.float32)
                for who, own in (("base", before), ("tuned", after))
            )
            total += functional.kl_div(base, tuned, reduction="sum", log_target=True).item()
        # Rounding can leave the divergence of two equal distributions slightly below zero.
        made.append((len(after), max(total, 0.0) if isfinite(total) else None))
    return made


def _answer_states(generator: Generator, rows: Sequence[tuple[list[int], int]]) -> list[Tensor]:
    """The hidden states that predict each answer's tokens. shapes: (answer tokens, width) each."""
    hidden = hidden_states(generator.model, [tokens for tokens, _ in rows])
    return [own[start - 1 : len(tokens) - 1] for own, (tokens, start) in zip(hidden, rows, strict=True)]
