"""Ability `general-text`: loss on ordinary prose of many genres, in nats per token."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import Prose, Size, Split, load_every
from keeptune.files import Record

FILE = "general-text.jsonl"
EVERY: dict[Size, int] = {"quick": 2, "standard": 2, "full": 1}


class GeneralText(Ability):
    """Loss on texts of many genres. The measure is a difference in nats, because a ratio of losses has no meaning."""

    name = "general-text"
    requires_same_tokens = True

    def items(self, split: Split, size: Size) -> list[Prose]:
        return load_every(FILE, Prose, split, EVERY[size])

    def item_fields(self, item: Prose) -> Record:
        return {"id": item.id, "language": item.language, "cluster": item.id, "text": item.text}

    def evaluate(
        self, subject: Subject, items: Sequence[Prose], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        choices = [encode_options(subject.generator.tokenizer, "", [item.text], False) for item in items]
        sums = log_likelihoods(subject.generator, choices)
        progress(len(items))
        vocabulary = subject.vocabulary
        return [
            {
                "nats": None if value is None else -value,
                "tokens": len(choice.options[0]) - choice.starts[0],
                "vocabulary": vocabulary,
            }
            for choice, (value,) in zip(choices, sums, strict=True)
        ]

    def grade_record(self, record: Record) -> Record:
        return {"nats_per_token": None if record["nats"] is None else record["nats"] / record["tokens"]}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [
            paired_measurement(
                "loss",
                base,
                tuned,
                lambda record: record["nats"],
                kind="loss",
                weight=lambda record: record["tokens"],
                chance=log(max((record["vocabulary"] for record in base), default=2)),
            )
        ]
