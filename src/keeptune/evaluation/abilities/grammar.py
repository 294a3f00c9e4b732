"""Grammar: of two sentences that differ in one place, is the grammatical one more likely? (BLiMP, Warstadt et al. 2020)

The sentences are scored as plain text, without a chat template: a sentence is no answer to a question.
"""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.evaluation.abilities.base import (
    Ability,
    Progress,
    Record,
    Subject,
    choice_measurements,
    option_probability,
)
from keeptune.evaluation.abilities.minimal_pairs import MinimalPair, minimal_pairs
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.likelihood import encode_choice, log_likelihoods
from keeptune.evaluation.suite.loader import Size, Split

CHANCE = 0.5
SEED = 2026
PER_PHENOMENON: dict[Size, int] = {"quick": 3, "standard": 5, "full": 48}
DEV_PER_PHENOMENON = 2
"""Dev pairs come before the others of their phenomenon, so that a larger suite never takes them in."""

PROGRESS_ITEMS = 128


class Grammar(Ability):
    """Minimal pairs made from a lexicon of our own."""

    name = "grammar"
    has_options = True

    def items(self, split: Split, size: Size) -> list[MinimalPair]:
        wanted = DEV_PER_PHENOMENON + (0 if split == "dev" else PER_PHENOMENON[size])
        pairs: dict[str, list[MinimalPair]] = {}
        for pair in minimal_pairs(wanted, SEED):
            pairs.setdefault(f"{pair.language} {pair.phenomenon}", []).append(pair)
        part = slice(DEV_PER_PHENOMENON) if split == "dev" else slice(DEV_PER_PHENOMENON, None)
        return [pair for own in pairs.values() for pair in own[part]]

    def stated(self, item: MinimalPair) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.id,
            "phenomenon": item.phenomenon,
            "good": item.good,
            "bad": item.bad,
        }

    def ask(
        self, subject: Subject, items: Sequence[MinimalPair], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        records: list[Record] = []
        for start in range(0, len(items), PROGRESS_ITEMS):
            part = items[start : start + PROGRESS_ITEMS]
            choices = [encode_choice(subject.generator.tokenizer, "", [pair.good, pair.bad], False) for pair in part]
            records += [{"log_likelihoods": values} for values in log_likelihoods(subject.generator, choices)]
            progress(len(part))
        return records

    def graded(self, record: Record) -> Record:
        good, bad = record["log_likelihoods"]
        return {
            "correct": good is not None and bad is not None and good > bad,
            "probability": option_probability((good, bad), 0),
        }

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return choice_measurements(base, tuned, CHANCE)
