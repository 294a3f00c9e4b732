"""Evaluates base and tuned on the retention suite, at once or in sequential looks.

Every answer becomes a record in `ability-NAME-base.jsonl` or `ability-NAME-tuned.jsonl`, from which all figures are
computed. Existing files are not computed again, so that an interrupted evaluation continues where it stopped. The rule
that turns the records into a verdict is in gate.py.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.gate import AbilityScores, GateResult, Limits, judge
from keeptune.evaluation.model_pair import VARIANTS, Pair
from keeptune.evaluation.suite.loader import Size, Split
from keeptune.files import Record, read_records, write_records
from keeptune.generation.record_cache import FROM_CACHE, RecordCache, sha256_of
from keeptune.models.prepacked_linear import packed_weights
from keeptune.progress import Reporter

LOOKS = 5
"""Number of looks of a sequential evaluation: one after each fifth of the questions."""


@dataclass(frozen=True, slots=True)
class PairedRecords:
    """The records of both models on one ability, in the same order of questions."""

    ability: Ability
    base: Sequence[Record]
    tuned: Sequence[Record]

    def ability_scores(self, practised: str | None) -> AbilityScores:
        """The measurements for the verdict. `practised` is the reason why training practised the ability, or None."""
        return AbilityScores(self.ability.name, self.ability.measurements(self.base, self.tuned), practised)


def record_path(folder: Path, ability: str, variant: str) -> Path:
    """The file of one model's records on one ability."""
    return folder / f"ability-{ability}-{variant}.jsonl"


def evaluate_suite(
    pair: Pair, abilities: Sequence[Ability], split: Split, size: Size, folder: Path, reporter: Reporter
) -> list[PairedRecords]:
    """The records of both models on these abilities. Missing files are computed and written to `folder`."""
    for variant in VARIANTS:
        missing = [ability for ability in abilities if not record_path(folder, ability.name, variant).is_file()]
        if not missing:
            continue
        with pair.using(variant) as subject, packed_weights(subject.generator.model):
            for ability in missing:
                base = read_records(record_path(folder, ability.name, "base")) if variant == "tuned" else None
                items = ability.items(split, size)
                records = collect_records(pair.cache(variant), variant, subject, ability, items, base, reporter)
                write_records(record_path(folder, ability.name, variant), records)
    return [load_paired_records(ability, folder) for ability in abilities]


def load_paired_records(ability: Ability, folder: Path) -> PairedRecords:
    """Loads the records that an evaluation wrote to `folder`.

    Raises:
        RunError: if a file is missing or damaged.
    """
    base, tuned = (read_records(record_path(folder, ability.name, variant)) for variant in VARIANTS)
    return PairedRecords(ability, base, tuned)


def collect_records(
    cache: RecordCache,
    name: str,
    subject: Subject,
    ability: Ability,
    items: Sequence[Any],
    base: Sequence[Record] | None,
    reporter: Reporter,
) -> list[Record]:
    """The records of one model on these items, from the cache if possible.

    `name` is the name of the model in progress messages. `base` holds the base's records if the model is the tuned one.
    """
    fingerprint = {
        "what": "ability",
        "ability": ability.name,
        # The fields of a long-context item do not contain its text, so the items themselves are hashed, too.
        "items": sha256_of([[ability.item_fields(item), repr(item)] for item in items]),
        **subject.layout.fingerprint,
        "base": None if base is None else sha256_of([record.get("output") for record in base]),
    }
    count = reporter.counter(f"{name}: {ability.name}", len(items))
    records, is_cached = cache.get_or_compute(fingerprint, lambda: ability.collect_records(subject, items, base, count))
    reporter.info(f"{name}: {ability.name}, {len(items)} questions{FROM_CACHE if is_cached else ''}")
    return records


def evaluate_suite_sequentially(
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
) -> tuple[list[PairedRecords], GateResult]:
    """Evaluates in LOOKS parts and stops asking about an ability once it is decided; returns records and verdict.

    Each part holds whole clusters in random order. The bounds are those of a group-sequential test, so that stopping
    at a favorable look does not raise the error rates.
    """
    looks = {ability.name: split_into_looks(ability, ability.items("final", size), seed) for ability in abilities}
    paired = {ability.name: PairedRecords(ability, [], []) for ability in abilities}
    undecided = list(abilities)
    result: GateResult | None = None
    for look in range(LOOKS):
        _evaluate_look(pair, undecided, {name: parts[look] for name, parts in looks.items()}, paired, reporter)
        scores = [paired[ability.name].ability_scores(practised.get(ability.name)) for ability in abilities]
        result = judge(scores, limits, resamples=resamples, seed=seed, looks=LOOKS)
        # "nothing to lose" is not final yet: a part of the questions may be too few to show a weak ability.
        open_names = {
            ability.name
            for ability in result.abilities
            if ability.status in ("undecided", "nothing to lose") and limits.counts(ability.name)
        }
        undecided = [ability for ability in undecided if ability.name in open_names]
        if result.verdict == "fail" or not undecided:
            break
    assert result is not None
    for name, records in paired.items():
        write_records(record_path(folder, name, "base"), records.base)
        write_records(record_path(folder, name, "tuned"), records.tuned)
    return list(paired.values()), result


def _evaluate_look(
    pair: Pair,
    abilities: Sequence[Ability],
    items: Mapping[str, Sequence[Any]],
    paired: dict[str, PairedRecords],
    reporter: Reporter,
) -> None:
    """Appends the records of both models on the items of one look to `paired`."""
    for variant in VARIANTS:
        with pair.using(variant) as subject, packed_weights(subject.generator.model):
            for ability in abilities:
                known = paired[ability.name]
                base = known.base[len(known.tuned) :] if variant == "tuned" else None
                cache = pair.cache(variant)
                records = collect_records(cache, variant, subject, ability, items[ability.name], base, reporter)
                if variant == "base":
                    paired[ability.name] = PairedRecords(ability, [*known.base, *records], known.tuned)
                else:
                    paired[ability.name] = PairedRecords(ability, known.base, [*known.tuned, *records])


def split_into_looks(ability: Ability, items: Sequence[Any], seed: int) -> list[list[Any]]:
    """The items in LOOKS parts of about equal size. Each part holds whole clusters, in an order drawn from the seed."""
    clusters: dict[str, list[Any]] = {}
    for item in items:
        clusters.setdefault(ability.item_fields(item)["cluster"], []).append(item)
    names = sorted(clusters)
    random.Random(f"{seed}/{ability.name}").shuffle(names)
    per_look = ceil(len(names) / LOOKS)
    parts = [names[start : start + per_look] for start in range(0, len(names), per_look)]
    return [[item for name in part for item in clusters[name]] for part in parts] + [[]] * (LOOKS - len(parts))
