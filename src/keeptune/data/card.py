"""The data card: what went in, what was left out and why, and what came out. It is written last, so that where it
stands the data stage is complete."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from keeptune.data.rewrite import Example
from keeptune.data.source import SourceFile
from keeptune.data.split import PARTS, Part
from keeptune.files import write_json

FILE = "card.json"


@dataclass(frozen=True, slots=True)
class Lengths:
    """The middle and the largest number of tokens; zeros where there is no example."""

    median: int
    max: int


@dataclass(frozen=True, slots=True)
class KindCard:
    """One kind. `rows` are the understood ones, of which `rejected` were wrong; `unique` problems are left of the
    others. `chosen` are those in train, dev and test, with `corrected` the ones whose stored solution was wrong."""

    rows: int
    rejected: int
    unique: int
    chosen: int
    corrected: int
    train: int
    dev: int
    test: int
    prompt_tokens: Lengths
    solution_tokens: Lengths


@dataclass(frozen=True, slots=True)
class PartCard:
    """How large train, dev or test is."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Leaks:
    """How many training rows share 13 words in sequence with the reading questions that retention is scored on."""

    retained_overlap: int


@dataclass(frozen=True, slots=True)
class Card:
    """The whole stage. rows_read = rows_kept + rows_rejected; rows_kept = unique + duplicates.

    `conflicts` of the duplicates' problems came with different solutions; `unwrapped` rows stood in a known prompt.
    `data_sha256` names the examples, whatever
    their order and wherever they stood.
    """

    files: list[SourceFile]
    rows_read: int
    rows_rejected: int
    rejected_by_reason: dict[str, int]
    rows_kept: int
    unique: int
    duplicates: int
    conflicts: int
    unwrapped: int
    kinds: dict[str, KindCard]
    splits: dict[Part, PartCard]
    too_long_dropped: int
    leaks: Leaks
    data_sha256: str


def kind_card(
    rows: int, rejected: int, unique: int, parts: Mapping[Part, Sequence[Example]], mistaken: Container[str]
) -> KindCard:
    """The card of a kind, given its examples; `mistaken` are the ids of those whose stored solution was wrong."""
    examples = [example for part in PARTS for example in parts[part]]
    return KindCard(
        rows=rows,
        rejected=rejected,
        unique=unique,
        chosen=len(examples),
        corrected=sum(example.id in mistaken for example in examples),
        train=len(parts["train"]),
        dev=len(parts["dev"]),
        test=len(parts["test"]),
        prompt_tokens=_lengths([example.prompt_tokens for example in examples]),
        solution_tokens=_lengths([example.solution_tokens for example in examples]),
    )


def part_cards(parts: Mapping[Part, Sequence[Example]]) -> dict[Part, PartCard]:
    """Rows and tokens of each part."""
    return {part: PartCard(len(parts[part]), sum(example.tokens for example in parts[part])) for part in PARTS}


def data_sha256(parts: Mapping[Part, Sequence[Example]]) -> str:
    """A hash of what is trained on and scored: every problem, its solution and its part, in no order."""
    rows = sorted(
        hashlib.sha256(f"{part}\0{example.id}\0{example.solution}".encode()).digest()
        for part in PARTS
        for example in parts[part]
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def write(card: Card, directory: Path) -> None:
    """Stores the card. errors: RunError when it cannot be written."""
    write_json(directory / FILE, asdict(card))


def _lengths(tokens: Sequence[int]) -> Lengths:
    return Lengths(statistics.median_high(tokens), max(tokens)) if tokens else Lengths(0, 0)
