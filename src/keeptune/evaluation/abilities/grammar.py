"""Ability `grammar`: preference for the grammatical sentence of a minimal pair (BLiMP, Warstadt et al. 2020).

The two sentences of a pair differ in one place, and the grammatical one should be more likely. They are scored as plain
text without a chat template, because a sentence is no answer to a question.
"""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.evaluation.abilities.base import (
    Ability,
    Progress,
    Subject,
    choice_measurements,
    option_probability,
)
from keeptune.evaluation.abilities.minimal_pairs import MinimalPair, minimal_pairs
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import Size, Split
from keeptune.files import Record

CHANCE = 0.5
SEED = 2026
PER_PHENOMENON: dict[Size, int] = {"quick": 3, "standard": 5, "full": 48}
DEV_PER_PHENOMENON = 2
"""Dev pairs are the first ones of each phenomenon, so that a larger suite never includes them."""

PROGRESS_ITEMS = 128


class Grammar(Ability):
    """Minimal pairs generated from keeptune's lexicon."""

    name = "grammar"
    has_options = True

    def items(self, split: Split, size: Size) -> list[MinimalPair]:
        per_phenomenon = DEV_PER_PHENOMENON + (0 if split == "dev" else PER_PHENOMENON[size])
        pairs: dict[str, list[MinimalPair]] = {}
        for pair in minimal_pairs(per_phenomenon, SEED):
            pairs.setdefault(f"{pair.language} {pair.phenomenon}", []).append(pair)
        part = slice(DEV_PER_PHENOMENON) if split == "dev" else slice(DEV_PER_PHENOMENON, None)
        return [pair for phenomenon_pairs in pairs.values() for pair in phenomenon_pairs[part]]

    def item_fields(self, item: MinimalPair) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.id,
            "phenomenon": item.phenomenon,
            "good": item.good,
            "bad": item.bad,
        }

    def evaluate(
        self, subject: Subject, items: Sequence[MinimalPair], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        records: list[Record] = []
        for start in range(0, len(items), PROGRESS_ITEMS):
            part = items[start : start + PROGRESS_ITEMS]
            choices = [encode_options(subject.generator.tokenizer, "", [pair.good, pair.bad], False) for pair in part]
            records += [{"log_likelihoods": values} for values in log_likelihoods(subject.generator, choices)]
            progress(len(part))
        return records

    def grade_record(self, record: Record) -> Record:
        good, bad = record["log_likelihoods"]
        return {
            "correct": good is not None and bad is not None and good > bad,
            "probability": option_probability((good, bad), 0),
        }

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return choice_measurements(base, tuned, CHANCE)
