"""The data card: what was read, what was left out and why, and what the splits contain.

It is written last, so the data stage is complete if the file exists.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from keeptune.config.solution_format import Rounding, Spelling
from keeptune.data.contamination import ContaminationReport
from keeptune.data.solution_rendering import PreparedRow, count_coarse_answers
from keeptune.data.sources import SourceFile
from keeptune.data.split import SPLITS, SplitName
from keeptune.files import write_json
from keeptune.run_files.card import Card

FILE_NAME = "card.json"


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """The median and the maximum of lengths. Both are 0 if there are no rows."""

    median: int
    max: int


@dataclass(frozen=True, slots=True)
class KindCard:
    """The counts of one kind."""

    rows: int
    """Rows of this kind that were read."""
    rejected: int
    """Rows with a wrong solution."""
    unique: int
    """Distinct problems among the accepted rows."""
    chosen: int
    """Problems in train, dev and test, without those of data.test_files."""
    corrected: int
    """Chosen problems whose stored solution was wrong."""
    unseen: int
    """Selected problems that were removed because they are forbidden."""
    near_duplicates: int
    """Problems that repeat another one with its numbers exchanged, or in almost the same words."""
    too_coarse: int
    """Rows whose answer the headline grader rejects because the recipe rounds it too coarsely."""
    train: int
    dev: int
    test: int
    """Rows in test, including the problems of data.test_files."""
    prompt_tokens: LengthSummary
    solution_tokens: LengthSummary
    answer_digits: LengthSummary
    """Digits in the last line of the solution."""


@dataclass(frozen=True, slots=True)
class SplitCard:
    """The size of train, dev or test."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class DataCard:
    """The result of the data stage. rows_read = rows_kept + rows_rejected; rows_kept = unique + duplicates."""

    files: list[SourceFile]
    formats: dict[str, str]
    """The container and the row format of each file's first rows, such as `JSON Lines, messages`."""
    test_files: list[SourceFile]
    """The files of data.test_files."""
    test_rejected: int
    """Rows in the test files that cannot be scored."""
    rows_read: int
    rows_rejected: int
    rejected_by_reason: dict[str, int]
    rows_kept: int
    unique: int
    duplicates: int
    conflicts: int
    """Problems that occur with different solutions."""
    ambiguous: int
    """Problems that occur with different answers; data.conflicts says what happens to them."""
    special_tokens_stripped: int
    """Rows from which special tokens of the tokenizer were removed."""
    unwrapped: int
    """Rows from which a known prompt was removed."""
    kinds: dict[str, KindCard]
    splits: dict[SplitName, SplitCard]
    max_tokens: int
    truncated: int
    """Rows longer than `max_tokens`. It is 0, because such rows are an error or are dropped."""
    too_long_dropped: int
    left_out: int
    """Problems in held-out ranges for which dev and test had no room."""
    spelling: Spelling
    """The spelling of numbers in rendered solutions."""
    leaks: ContaminationReport
    data_sha256: str
    """A hash of the rows of all splits, independent of their order and origin."""


@dataclass(frozen=True, slots=True)
class KindCounts:
    """The counts of a kind that are known before its rows are split. See `KindCard`."""

    rows: int
    rejected: int
    unique: int
    unseen: int
    near_duplicates: int


def build_kind_card(
    counts: KindCounts,
    splits: Mapping[SplitName, Sequence[PreparedRow]],
    faulty_origins: Container[tuple[str, int]],
    rounding: Rounding,
    external_test_rows: int,
) -> KindCard:
    """Return the card of a kind, given its rows.

    Args:
        faulty_origins: the (file, line) of rows whose stored solution was wrong.
        external_test_rows: the number of problems of this kind in data.test_files.
    """
    rows = [row for name in SPLITS for row in splits[name]]
    return KindCard(
        rows=counts.rows,
        rejected=counts.rejected,
        unique=counts.unique,
        chosen=len({row.id for row in rows}),
        corrected=len({row.id for row in rows if (row.file, row.line) in faulty_origins}),
        unseen=counts.unseen,
        near_duplicates=counts.near_duplicates,
        too_coarse=count_coarse_answers(rows, rounding),
        train=len(splits["train"]),
        dev=len(splits["dev"]),
        test=len(splits["test"]) + external_test_rows,
        prompt_tokens=_summarize_lengths([row.prompt_tokens for row in rows]),
        solution_tokens=_summarize_lengths([row.solution_tokens for row in rows]),
        answer_digits=_summarize_lengths([sum(map(str.isdigit, _last_line(row.solution))) for row in rows]),
    )


def build_split_cards(splits: Mapping[SplitName, Sequence[PreparedRow]]) -> dict[SplitName, SplitCard]:
    """Return the number of rows and tokens of each split."""
    return {name: SplitCard(len(splits[name]), sum(row.tokens for row in splits[name])) for name in SPLITS}


def data_sha256(splits: Mapping[SplitName, Sequence[PreparedRow]]) -> str:
    """Return a hash of every problem, its solution and its split, independent of their order."""
    digests = sorted(
        hashlib.sha256(
            f"{name}\0{row.id}\0{row.solution}{'' if row.conversation is None else row.conversation}".encode()
        ).digest()
        for name in SPLITS
        for row in splits[name]
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def summarize_formats(card: DataCard) -> list[str]:
    """Return the formats of the files as lines of text."""
    by_format: dict[str, list[str]] = {}
    for file, name in card.formats.items():
        by_format.setdefault(name, []).append(file)
    return [
        f"format: {name} ({files[0] if len(files) == 1 else f'{len(files):,} files'})"
        for name, files in by_format.items()
    ]


def summarize(card: DataCard, conflicts: str = "reject") -> list[str]:
    """Return the main counts of the card as lines of text. `conflicts` is the setting data.conflicts."""
    chosen = sum(kind.chosen for kind in card.kinds.values())
    lines = [
        f"{card.rows_read:,} rows read, {card.rows_rejected:,} rejected; "
        f"{card.unique:,} unique problems, {chosen:,} selected"
    ]
    lines += [f"rejected: {count:,} × {reason}" for reason, count in card.rejected_by_reason.items()]
    if card.ambiguous:
        lines.append(f"conflicts: {card.ambiguous:,} problems with different answers (data.conflicts: {conflicts})")
    if card.special_tokens_stripped:
        lines.append(f"special tokens: removed from {card.special_tokens_stripped:,} rows")
    if card.test_files:
        lines.append(
            f"{card.splits['test'].rows:,} test problems from data.test_files, {card.test_rejected:,} rows rejected"
        )
    lines += [
        f"{name}: {kind.too_coarse:,} answers are rounded more coarsely than the grader allows"
        for name, kind in card.kinds.items()
        if kind.too_coarse
    ]
    return lines if card.spelling == "plain" else [*lines, f"spelling of numbers in solutions: {card.spelling}"]


def write_card(card: DataCard, directory: Path) -> None:
    """Write the card to `directory`.

    Raises:
        RunError: the file cannot be written.
    """
    write_json(directory / FILE_NAME, Card.checked(asdict(card)))


def _last_line(solution: str) -> str:
    return solution.rpartition("\n")[2]


def _summarize_lengths(lengths: Sequence[int]) -> LengthSummary:
    return LengthSummary(statistics.median_high(lengths), max(lengths)) if lengths else LengthSummary(0, 0)
