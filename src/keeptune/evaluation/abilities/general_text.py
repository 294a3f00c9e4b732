"""General text: how well each next token of ordinary prose is predicted, in nats per token."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from keeptune.evaluation.abilities.base import Ability, Progress, Record, Subject
from keeptune.evaluation.abilities.base import measurement as paired
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.likelihood import encode_choice, log_likelihoods
from keeptune.evaluation.suite.loader import Prose, Size, Split, selected

FILE = "general-text.jsonl"
EVERY: dict[Size, int] = {"quick": 2, "standard": 2, "full": 1}


class GeneralText(Ability):
    """Loss on texts of many genres. The measure is a difference in nats, because a ratio of losses means little."""

    name = "general-text"
    same_tokens = True

    def items(self, split: Split, size: Size) -> list[Prose]:
        return selected(FILE, Prose, split, EVERY[size])

    def stated(self, item: Prose) -> Record:
        return {"id": item.id, "language": item.language, "cluster": item.id, "text": item.text}

    def ask(
        self, subject: Subject, items: Sequence[Prose], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        choices = [encode_choice(subject.generator.tokenizer, "", [item.text], False) for item in items]
        found = log_likelihoods(subject.generator, choices)
        progress(len(items))
        vocabulary = subject.vocabulary
        return [
            {
                "nats": None if value is None else -value,
                "tokens": len(choice.options[0]) - choice.starts[0],
                "vocabulary": vocabulary,
            }
            for choice, (value,) in zip(choices, found, strict=True)
        ]

    def graded(self, record: Record) -> Record:
        return {"nats_per_token": None if record["nats"] is None else record["nats"] / record["tokens"]}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [
            paired(
                "loss",
                base,
                tuned,
                lambda record: record["nats"],
                kind="loss",
                weight=lambda record: record["tokens"],
                chance=log(max((record["vocabulary"] for record in base), default=2)),
            )
        ]
