"""The data card: what went in, what was left out and why, and what came out. It is written last, so that where it
stands the data stage is complete."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from keeptune.config.solution_format import Rounding, Spelling
from keeptune.data.contamination import Leaks
from keeptune.data.solution_rendering import Example, too_coarse
from keeptune.data.sources import SourceFile
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
    others, of which `unseen` may not be taught and `near_duplicates` say what another one says, with its numbers
    exchanged or in almost the same words. `chosen` are those in train, dev and test, but for test problems that were
    brought, with `corrected` the ones whose stored solution was wrong; `too_coarse` of them have an answer that the
    headline grader rejects, because the recipe rounds so. `answer_digits` are those of the last line."""

    rows: int
    rejected: int
    unique: int
    chosen: int
    corrected: int
    unseen: int
    near_duplicates: int
    too_coarse: int
    train: int
    dev: int
    test: int
    prompt_tokens: Lengths
    solution_tokens: Lengths
    answer_digits: Lengths


@dataclass(frozen=True, slots=True)
class PartCard:
    """How large train, dev or test is."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Card:
    """The whole stage. rows_read = rows_kept + rows_rejected; rows_kept = unique + duplicates.

    `test_files` hold the test problems where these were brought, and `test_rejected` of their rows cannot be asked.
    `conflicts` of the duplicates' problems came with different solutions; `unwrapped` rows stood in a known prompt;
    `truncated` examples are longer than `max_tokens`, and there are none: they are an error, or are dropped;
    `left_out` problems stand in ranges that are held back, and found no room in dev and test. `spelling` is that of the
    numbers in solutions that we wrote. `data_sha256` names the examples, whatever their order and wherever they stood.
    """

    files: list[SourceFile]
    test_files: list[SourceFile]
    test_rejected: int
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
    max_tokens: int
    truncated: int
    too_long_dropped: int
    left_out: int
    spelling: Spelling
    leaks: Leaks
    data_sha256: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a kind before its examples: see KindCard."""

    rows: int
    rejected: int
    unique: int
    unseen: int
    near_duplicates: int


def kind_card(
    found: Found,
    parts: Mapping[Part, Sequence[Example]],
    mistaken: Container[tuple[str, int]],
    rounding: Rounding,
    brought: int,
) -> KindCard:
    """The card of a kind, given its examples; `mistaken` are the places of rows whose stored solution was wrong, and
    `brought` is how many test problems come from files of their own."""
    examples = [example for part in PARTS for example in parts[part]]
    return KindCard(
        rows=found.rows,
        rejected=found.rejected,
        unique=found.unique,
        chosen=len({example.id for example in examples}),
        corrected=len({example.id for example in examples if (example.file, example.line) in mistaken}),
        unseen=found.unseen,
        near_duplicates=found.near_duplicates,
        too_coarse=too_coarse(examples, rounding),
        train=len(parts["train"]),
        dev=len(parts["dev"]),
        test=len(parts["test"]) + brought,
        prompt_tokens=_lengths([example.prompt_tokens for example in examples]),
        solution_tokens=_lengths([example.solution_tokens for example in examples]),
        answer_digits=_lengths([sum(map(str.isdigit, _last_line(example.solution))) for example in examples]),
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


def summary(card: Card) -> list[str]:
    """What became of the rows, in lines for people."""
    chosen = sum(kind.chosen for kind in card.kinds.values())
    lines = [
        f"{card.rows_read:,} rows read, {card.rows_rejected:,} rejected; "
        f"{card.unique:,} unique problems, {chosen:,} chosen"
    ]
    lines += [f"rejected: {count:,} × {reason}" for reason, count in card.rejected_by_reason.items()]
    if card.test_files:
        lines.append(f"{card.splits['test'].rows:,} test problems brought, {card.test_rejected:,} rows cannot be asked")
    lines += [
        f"{name}: {kind.too_coarse:,} answers are rounded coarser than the grader allows"
        for name, kind in card.kinds.items()
        if kind.too_coarse
    ]
    return lines if card.spelling == "plain" else [*lines, f"numbers in the solutions are {card.spelling}"]


def write(card: Card, directory: Path) -> None:
    """Stores the card. errors: RunError when it cannot be written."""
    write_json(directory / FILE, asdict(card))


def _last_line(solution: str) -> str:
    return solution.rpartition("\n")[2]


def _lengths(tokens: Sequence[int]) -> Lengths:
    return Lengths(statistics.median_high(tokens), max(tokens)) if tokens else Lengths(0, 0)
