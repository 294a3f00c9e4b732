"""Replay of the base's own answers: what the model said to a broad pool of prompts before training is practised.

Answers are drawn from the base's own distribution (temperature 1). On average nothing can be learnt from these, since
no other model predicts them better; every other training moves the model away, and this pulls it back to where it was.
Self-generated replay nearly removes forgetting (arXiv 2605.26097). The pool shares no run of 13 words with the
retention suite, which a test checks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache, sha256_of
from keeptune.prompts.chat import ChatLayout, Message
from keeptune.training.batches import REPLAY_KIND, TokenizedExample

Record = dict[str, Any]

POOL = "prompt_pool.jsonl"

ANSWER_TOKENS = 96
"""The most tokens of an answer."""

BLOCK_PROMPTS = 128
"""Prompts that are answered before their tokens are counted: as many as are decoded together."""


class PoolPrompt(BaseModel):
    """A line of the pool: a conversation whose next turn is the model's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    language: Literal["en", "zh"]
    topic: str
    source: str
    licence: str
    messages: Annotated[tuple[Message, ...], Field(min_length=1)]


@cache
def pool() -> tuple[PoolPrompt, ...]:
    """All prompts, in the order of the file."""
    text = (resources.files("keeptune.generation") / POOL).read_text(encoding="utf-8")
    return tuple(PoolPrompt.model_validate_json(line) for line in text.splitlines())


def own_answers(generator: Generator, layout: ChatLayout, kept: RecordCache, tokens: int, seed: int) -> list[Record]:
    """The base's answers to as many prompts of the pool, in random order, as make `tokens` tokens with them, or to all.

    `generator` holds the base. Answers that were made before are taken from `kept`.
    """
    prompts = list(pool())
    random.Random(f"{seed}/own answers").shuffle(prompts)
    facts = {
        "what": "own answers",
        "pool": sha256_of([prompt.model_dump(mode="json") for prompt in prompts]),
        "tokens": tokens,
        "seed": seed,
        **layout.fingerprint,
    }
    return kept.records(facts, lambda: _answers(generator, layout, prompts, tokens, seed))[0]


def _answers(
    generator: Generator, layout: ChatLayout, prompts: Sequence[PoolPrompt], tokens: int, seed: int
) -> list[Record]:
    records: list[Record] = []
    filled = 0
    for start in range(0, len(prompts), BLOCK_PROMPTS):
        block = prompts[start : start + BLOCK_PROMPTS]
        rendered = [layout.conversation(prompt.messages) for prompt in block]
        asked = [layout.tokens(text) for text in rendered]
        answers = generator.sample(asked, [ANSWER_TOKENS] * len(asked), seed + start)
        for prompt, text, question, answer in zip(block, rendered, asked, answers, strict=True):
            records.append({"id": prompt.id, "prompt": text, "output": answer.text, "stopped": answer.stopped})
            filled += len(question) + answer.tokens
        if filled >= tokens:
            break
    return records


def own_examples(records: Sequence[Record], layout: ChatLayout) -> list[TokenizedExample]:
    """Training rows labelled on the answers, of those that hold one. An answer that ended by itself is learnt with its
    end token."""
    examples = []
    for record in records:
        question = layout.tokens(record["prompt"])
        answer = layout.tokenizer.encode(record["output"], add_special_tokens=False)
        end = [layout.tokenizer.eos_token_id] if record["stopped"] else []
        if answer:
            labelled = (False,) * len(question) + (True,) * (len(answer) + len(end))
            examples.append(
                TokenizedExample(f"practice:{record['id']}", REPLAY_KIND, (*question, *answer, *end), labelled)
            )
    return examples
