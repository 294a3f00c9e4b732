"""Chat: how far tuning moved the model from what the base answers, and whether its answers are still answers.

The base writes greedy answers to single- and multi-turn prompts. Two measures: the loss of the tuned model on the
base's own healthy answers beside the base's loss on them, in nats per token; and the share of answers that are not
degenerate (conversation.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from keeptune.evaluation.abilities.base import Ability, Progress, Record, Subject
from keeptune.evaluation.abilities.base import measurement as paired
from keeptune.evaluation.abilities.conversation import degenerate, written_answers
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.likelihood import Choice, log_likelihoods
from keeptune.evaluation.suite.loader import Conversation, Size, Split, selected

FILE = "chat.jsonl"
BUDGET_TOKENS = 32
EVERY: dict[Size, int] = {"quick": 4, "standard": 2, "full": 1}


class Chat(Ability):
    """Ordinary prompts to an assistant."""

    name = "chat"
    same_tokens = True

    def items(self, split: Split, size: Size) -> list[Conversation]:
        return selected(FILE, Conversation, split, EVERY[size])

    def stated(self, item: Conversation) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.id,
            "messages": [message.model_dump() for message in item.messages],
        }

    def ask(
        self, subject: Subject, items: Sequence[Conversation], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        answers = written_answers(subject, [item.messages for item in items], BUDGET_TOKENS, progress)
        references = [record["output"] for record in (base if base is not None else answers)]
        nats = _nats(subject, [record["prompt"] for record in answers], references)
        return [{**answer, **own, "vocabulary": subject.vocabulary} for answer, own in zip(answers, nats, strict=True)]

    def graded(self, record: Record) -> Record:
        return {"degenerate": degenerate(record["output"], record["language"])}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        loss = paired(
            "loss",
            base,
            tuned,
            lambda record: record["nats"],
            kind="loss",
            weight=lambda record: record["reference_tokens"],
            usable=lambda record: record["degenerate"] is None and record["reference_tokens"] > 0,
            chance=log(max((record["vocabulary"] for record in base), default=2)),
        )
        healthy = paired("healthy", base, tuned, lambda record: record["degenerate"] is None)
        return [loss, healthy]


def _nats(subject: Subject, prompts: Sequence[str], references: Sequence[str]) -> list[Record]:
    """The loss of the model on each reference answer behind its prompt, and the number of its tokens."""
    tokenizer, choices = subject.generator.tokenizer, []
    for prompt, reference in zip(prompts, references, strict=True):
        before = subject.layout.tokens(prompt)
        after = tokenizer.encode(reference, add_special_tokens=False)
        choices.append(Choice(((*before, *after),), (len(before),)) if before and after else None)
    found = iter(log_likelihoods(subject.generator, [own for own in choices if own is not None]))
    records: list[Record] = []
    for own in choices:
        value = next(found)[0] if own is not None else 0.0
        tokens = len(own.options[0]) - own.starts[0] if own is not None else 0
        records.append({"nats": None if value is None else -value, "reference_tokens": tokens})
    return records
