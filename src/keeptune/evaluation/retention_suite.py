"""Asks base and tuned the retention suite and judges the answers.

Every answer becomes a record in a file, `ability-NAME-base.jsonl` or `ability-NAME-tuned.jsonl`; every figure is
computed from these. Files that exist are not made again, so an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from keeptune.evaluation.abilities.base import Ability, Record, Subject
from keeptune.evaluation.gate import AbilityScores, GateResult, Limits, judge
from keeptune.evaluation.model_pair import WHO, Pair
from keeptune.evaluation.suite.loader import Size, Split
from keeptune.files import read_records, write_records
from keeptune.generation.record_cache import AGAIN, RecordCache, sha256_of
from keeptune.models.prepacked_linear import packed_weights
from keeptune.progress import Reporter

LOOKS = 5
"""Looks of a sequential evaluation: after each fifth of the questions."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The records of both models on one ability, question by question."""

    ability: Ability
    base: Sequence[Record]
    tuned: Sequence[Record]

    def scores(self, practised: str | None) -> AbilityScores:
        """The measurements, for the verdict."""
        return AbilityScores(self.ability.name, self.ability.measurements(self.base, self.tuned), practised)


def record_path(folder: Path, ability: str, who: str) -> Path:
    """The file of one model's records on one ability."""
    return folder / f"ability-{ability}-{who}.jsonl"


def evaluate(
    pair: Pair, abilities: Sequence[Ability], split: Split, size: Size, folder: Path, reporter: Reporter
) -> list[Answers]:
    """The records of both models on these abilities, made where their files are missing."""
    for who in WHO:
        missing = [own for own in abilities if not record_path(folder, own.name, who).is_file()]
        if not missing:
            continue
        with pair.using(who) as subject, packed_weights(subject.generator.model):
            for ability in missing:
                base = read_records(record_path(folder, ability.name, "base")) if who == "tuned" else None
                records = ask(pair.cache(who), who, subject, ability, ability.items(split, size), base, reporter)
                write_records(record_path(folder, ability.name, who), records)
    return [stored(ability, folder) for ability in abilities]


def stored(ability: Ability, folder: Path) -> Answers:
    """The records that an evaluation left in `folder`. Raises RunError where they are missing."""
    base, tuned = (read_records(record_path(folder, ability.name, who)) for who in WHO)
    return Answers(ability, base, tuned)


def ask(
    cache: RecordCache,
    who: str,
    subject: Subject,
    ability: Ability,
    items: Sequence[Any],
    base: Sequence[Record] | None,
    reporter: Reporter,
) -> list[Record]:
    """The records of one model on these items, from the cache where the same was asked before; `who` names it."""
    facts = {
        "what": "ability",
        "ability": ability.name,
        # What is stated of a long context does not hold its text, so the items themselves count, too.
        "items": sha256_of([[ability.stated(item), repr(item)] for item in items]),
        **subject.layout.fingerprint,
        "base": None if base is None else sha256_of([record.get("output") for record in base]),
    }
    count = reporter.counter(f"{who}: {ability.name}", len(items))
    records, again = cache.records(facts, lambda: ability.records(subject, items, base, count))
    reporter.info(f"{who}: {ability.name}, {len(items)} questions{AGAIN if again else ''}")
    return records


def evaluate_sequentially(
    pair: Pair,
    abilities: Sequence[Ability],
    size: Size,
    limits: Limits,
    practised: Mapping[str, str],
    folder: Path,
    reporter: Reporter,
    *,
    resamples: int,
    seed: int,
) -> tuple[list[Answers], GateResult]:
    """As `evaluate` and `judge`, in LOOKS parts: an ability that is decided at a look is not asked further.

    The parts hold whole clusters in random order. Bounds are those of a group-sequential test, so that stopping at a
    favourable look does not raise the error rates.
    """
    parts = {own.name: looks_of(own, own.items("final", size), seed) for own in abilities}
    answers = {own.name: Answers(own, [], []) for own in abilities}
    open_abilities = list(abilities)
    result: GateResult | None = None
    for look in range(LOOKS):
        for who in WHO:
            with pair.using(who) as subject, packed_weights(subject.generator.model):
                for own in open_abilities:
                    known = answers[own.name]
                    base = known.base[len(known.tuned) :] if who == "tuned" else None
                    records = ask(pair.cache(who), who, subject, own, parts[own.name][look], base, reporter)
                    grown = [*getattr(known, who), *records]
                    answers[own.name] = Answers(own, *((grown, known.tuned) if who == "base" else (known.base, grown)))
        scores = [answers[own.name].scores(practised.get(own.name)) for own in abilities]
        result = judge(scores, limits, resamples=resamples, seed=seed, looks=LOOKS)
        # A part of the questions may be too few to tell a base that has little of an ability from one without it.
        waiting = {
            own.name
            for own in result.abilities
            if own.status in ("undecided", "nothing to lose") and limits.counts(own.name)
        }
        open_abilities = [own for own in open_abilities if own.name in waiting]
        if result.verdict == "fail" or not open_abilities:
            break
    assert result is not None
    for name, asked in answers.items():
        write_records(record_path(folder, name, "base"), asked.base)
        write_records(record_path(folder, name, "tuned"), asked.tuned)
    return list(answers.values()), result


def looks_of(ability: Ability, items: Sequence[Any], seed: int) -> list[list[Any]]:
    """The items in LOOKS parts of about equal size, each of whole clusters, in an order drawn from the seed."""
    clusters: dict[str, list[Any]] = {}
    for item in items:
        clusters.setdefault(ability.stated(item)["cluster"], []).append(item)
    names = sorted(clusters)
    random.Random(f"{seed}/{ability.name}").shuffle(names)
    per_look = ceil(len(names) / LOOKS)
    parts = [names[start : start + per_look] for start in range(0, len(names), per_look)]
    return [[item for name in part for item in clusters[name]] for part in parts] + [[]] * (LOOKS - len(parts))
