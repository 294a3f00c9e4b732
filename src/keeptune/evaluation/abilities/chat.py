"""Ability `chat`: loss on the base's own answers to ordinary prompts, and the share of healthy answers.

Both models write greedy answers to single- and multi-turn prompts. The headline is the loss of base and tuned on the
base's healthy answers, in nats per token. The second measure is the share of answers that are not degenerate
(conversation.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.abilities.conversation import degenerate, written_answers
from keeptune.evaluation.continuation_likelihood import Choice, log_likelihoods
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import Conversation, Size, Split, load_every
from keeptune.files import Record

FILE = "chat.jsonl"
BUDGET_TOKENS = 32
EVERY: dict[Size, int] = {"quick": 4, "standard": 2, "full": 1}


class Chat(Ability):
    """Ordinary single- and multi-turn prompts to an assistant."""

    name = "chat"
    requires_same_tokens = True

    def items(self, split: Split, size: Size) -> list[Conversation]:
        return load_every(FILE, Conversation, split, EVERY[size])

    def item_fields(self, item: Conversation) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.id,
            "messages": [message.model_dump() for message in item.messages],
        }

    def evaluate(
        self, subject: Subject, items: Sequence[Conversation], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        answers = written_answers(subject, [item.messages for item in items], BUDGET_TOKENS, progress)
        references = [record["output"] for record in (base if base is not None else answers)]
        losses = _losses(subject, [record["prompt"] for record in answers], references)
        return [
            {**answer, **loss, "vocabulary": subject.vocabulary} for answer, loss in zip(answers, losses, strict=True)
        ]

    def grade_record(self, record: Record) -> Record:
        return {"degenerate": degenerate(record["output"], record["language"])}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        loss = paired_measurement(
            "loss",
            base,
            tuned,
            lambda record: record["nats"],
            kind="loss",
            weight=lambda record: record["reference_tokens"],
            usable=lambda record: record["degenerate"] is None and record["reference_tokens"] > 0,
            chance=log(max((record["vocabulary"] for record in base), default=2)),
        )
        healthy = paired_measurement("healthy", base, tuned, lambda record: record["degenerate"] is None)
        return [loss, healthy]


def _losses(subject: Subject, prompts: Sequence[str], references: Sequence[str]) -> list[Record]:
    """The model's loss on each reference answer to its prompt, in nats, and the number of tokens of the answer."""
    tokenizer, choices = subject.generator.tokenizer, []
    for prompt, reference in zip(prompts, references, strict=True):
        prompt_tokens = subject.layout.tokens(prompt)
        answer_tokens = tokenizer.encode(reference, add_special_tokens=False)
        is_scored = prompt_tokens and answer_tokens
        choices.append(Choice(((*prompt_tokens, *answer_tokens),), (len(prompt_tokens),)) if is_scored else None)
    values = iter(log_likelihoods(subject.generator, [choice for choice in choices if choice is not None]))
    records: list[Record] = []
    for choice in choices:
        value = next(values)[0] if choice is not None else 0.0
        tokens = len(choice.options[0]) - choice.starts[0] if choice is not None else 0
        records.append({"nats": None if value is None else -value, "reference_tokens": tokens})
    return records
