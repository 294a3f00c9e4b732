"""Self-replay: the base model's own answers to a broad prompt pool, sampled before training and mixed into training.

The answers are sampled at temperature 1. In expectation, the base model has nothing to learn from its own samples,
because no other model predicts them better. A model that training has moved away is pulled back. Self-generated replay
nearly removes forgetting (arXiv 2605.26097). No run of 13 words of the pool occurs in the retention suite (tested).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from keeptune.files import Record
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache, sha256_of
from keeptune.prompts.chat import ChatLayout, Message
from keeptune.prompts.chat_prompt import turn_end
from keeptune.training.batches import REPLAY_KIND, TokenizedExample

POOL = "prompt_pool.jsonl"
"""Data file beside this module."""

ANSWER_TOKENS = 96
"""Maximum number of tokens of an answer."""

BLOCK_PROMPTS = 128
"""Number of prompts that are answered before their tokens are counted: as many as are decoded together."""


class PoolPrompt(BaseModel):
    """One line of the prompt pool: a conversation in which the model speaks next."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    language: Literal["en", "zh"]
    topic: str
    source: str
    licence: str
    messages: Annotated[tuple[Message, ...], Field(min_length=1)]


@cache
def prompt_pool() -> tuple[PoolPrompt, ...]:
    """All prompts of the pool, in the order of the file."""
    text = (resources.files("keeptune.generation") / POOL).read_text(encoding="utf-8")
    return tuple(PoolPrompt.model_validate_json(line) for line in text.split("\n") if line)


def sample_self_answers(
    generator: Generator, layout: ChatLayout, record_cache: RecordCache, tokens: int, seed: int
) -> list[Record]:
    """Answers of the base model to prompts of the pool in random order, one record per prompt.

    Prompts are added until prompts and answers have `tokens` tokens together, or until the pool is used up. The
    `generator` holds the base model. Records in `record_cache` are reused.
    """
    prompts = list(prompt_pool())
    random.Random(f"{seed}/own answers").shuffle(prompts)
    fingerprint = {
        "what": "sampled answers",
        "pool": sha256_of([prompt.model_dump(mode="json") for prompt in prompts]),
        "tokens": tokens,
        "seed": seed,
        **layout.fingerprint,
    }
    return record_cache.get_or_compute(fingerprint, lambda: _sample(generator, layout, prompts, tokens, seed))[0]


def sample_on_policy_answers(generator: Generator, layout: ChatLayout, tokens: int, seed: int) -> list[Record]:
    """Answers of an adapter to prompts of the pool, in another random order than those of the base.

    Only the KL term may use them: where the adapter has moved, the base says what it should predict. That is on-policy
    distillation (arXiv 2306.13649), with answers of the adapter that training starts from.
    """
    prompts = list(prompt_pool())
    random.Random(f"{seed}/on-policy answers").shuffle(prompts)
    return _sample(generator, layout, prompts, tokens, seed)


def _sample(
    generator: Generator, layout: ChatLayout, prompts: Sequence[PoolPrompt], tokens: int, seed: int
) -> list[Record]:
    records: list[Record] = []
    total_tokens = 0
    for start in range(0, len(prompts), BLOCK_PROMPTS):
        block = prompts[start : start + BLOCK_PROMPTS]
        texts = [layout.conversation(prompt.messages) for prompt in block]
        questions = [layout.tokens(text) for text in texts]
        answers = generator.sample(questions, [ANSWER_TOKENS] * len(questions), seed + start)
        for prompt, text, question, answer in zip(block, texts, questions, answers, strict=True):
            records.append({"id": prompt.id, "prompt": text, "output": answer.text, "stopped": answer.stopped})
            total_tokens += len(question) + answer.tokens
        if total_tokens >= tokens:
            break
    return records


def self_answer_examples(records: Sequence[Record], layout: ChatLayout) -> list[TokenizedExample]:
    """Training examples of the records with an answer. The loss covers the answer, and its end token if it stopped."""
    examples = []
    for record in records:
        question = layout.tokens(record["prompt"])
        answer = layout.tokenizer.encode(record["output"], add_special_tokens=False)
        end = turn_end(layout.tokenizer) if record["stopped"] else []
        if answer:
            labeled = (False,) * len(question) + (True,) * (len(answer) + len(end))
            examples.append(
                TokenizedExample(f"practice:{record['id']}", REPLAY_KIND, (*question, *answer, *end), labeled)
            )
    return examples
