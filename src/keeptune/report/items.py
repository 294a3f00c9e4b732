"""Items whose result differs between base and tuned, per ability, from the records in scores/.

An item is lost if its score is lower for tuned than for base, and gained if it is higher. For losses, the report shows
the items with the largest increase per token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from keeptune.report import text
from keeptune.report.abilities import anchor
from keeptune.report.finished_run import ability_records
from keeptune.run_files.records import ItemRecord
from keeptune.run_files.retention import Ability

LOST_SHOWN, GAINED_SHOWN = 6, 3

Value = Callable[[ItemRecord], float | None]
Pair = tuple[ItemRecord, ItemRecord]


@dataclass(frozen=True, slots=True)
class Change:
    """One item with both records and the change of its value; for losses, a positive change is a loss."""

    base: ItemRecord
    tuned: ItemRecord
    amount: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The items that changed on one measure: how many, and those that the page shows."""

    is_loss: bool
    n: int
    lost_count: int
    gained_count: int
    lost: list[Change]
    gained: list[Change]

    @property
    def summary(self) -> str:
        """The numbers of changed items as a sentence."""
        n, lost, gained = (text.count(number) for number in (self.n, self.lost_count, self.gained_count))
        if self.is_loss:
            return f"The loss per token is higher on {lost} of {n} items and lower on {gained}."
        changed = text.count(self.lost_count + self.gained_count)
        return f"{changed} of {n} items changed: {lost} lost, {gained} gained."


@dataclass(frozen=True, slots=True)
class FlippedItems:
    """The changed items of one ability. There is no comparison where the run has no records of it."""

    name: str
    comparisons: list[Comparison]

    @property
    def anchor(self) -> str:
        """The id of this part of the page."""
        return anchor(self.name)


def flipped_items(run: Path, abilities: dict[str, Ability]) -> Iterator[FlippedItems]:
    """The changed items of each ability. Record files are read one ability at a time."""
    for name in abilities:
        records = ability_records(run, name)
        yield FlippedItems(name, compare(*records) if records else [])


def compare(base: Sequence[ItemRecord], tuned: Sequence[ItemRecord]) -> list[Comparison]:
    """The changed items on each measure that the records have."""
    before = {record.id: record for record in base}
    pairs = [(before[record.id], record) for record in tuned if record.id in before]
    comparisons = []
    if measured := [pair for pair in pairs if _has_loss(pair[0])]:
        comparisons.append(_comparison(measured, loss_per_token, is_loss=True))
    if scored := [pair for pair in pairs if score(pair[0]) is not None]:
        comparisons.append(_comparison(scored, score, is_loss=False))
    return comparisons


def score(record: ItemRecord) -> float | None:
    """The item's score from 0 to 1; None where it has none."""
    if record.strict:
        return sum(record.strict) / len(record.strict)
    if record.refused is not None:
        return float(record.refused if record.harmful else not record.refused and record.degenerate is None)
    if "degenerate" in record.model_fields_set:
        return float(record.degenerate is None)
    if record.squad is not None:
        return record.squad.f1 / 100
    values = (record.correct, record.f1, record.score, record.value)
    return next((float(value) for value in values if value is not None), None)


def loss_per_token(record: ItemRecord) -> float | None:
    """The item's loss in nats per token; None where it has none."""
    if record.reference_tokens is None:
        return record.nats_per_token
    return record.nats / record.reference_tokens if record.nats is not None and record.reference_tokens else None


def _has_loss(base: ItemRecord) -> bool:
    """Whether the loss is compared on this item: not on degenerate answers of the base."""
    return loss_per_token(base) is not None and base.degenerate is None


def _comparison(pairs: Sequence[Pair], value: Value, is_loss: bool) -> Comparison:
    changes = [Change(before, after, _amount(before, after, value, is_loss)) for before, after in pairs]
    worse, better = (
        sorted((change for change in changes if sign * change.amount > 0), key=_largest_first) for sign in (1, -1)
    )
    gained = [] if is_loss else better[:GAINED_SHOWN]
    return Comparison(is_loss, len(pairs), len(worse), len(better), worse[:LOST_SHOWN], gained)


def _amount(base: ItemRecord, tuned: ItemRecord, value: Value, is_loss: bool) -> float:
    """How much worse tuned is than base. A value that is not a finite number is as bad as possible."""
    before, after = value(base), value(tuned)
    if before is None or after is None:
        return inf
    return after - before if is_loss else before - after


def _largest_first(change: Change) -> tuple[float, str]:
    """Sorts by size; equal changes by a hash of the id, which is a random order that never changes."""
    return -abs(change.amount), hashlib.sha256(change.base.id.encode()).hexdigest()
