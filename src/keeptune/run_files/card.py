"""Schema of data/card.json."""

from __future__ import annotations

from pydantic import Field

from keeptune.run_files.part import Part


class Lengths(Part):
    """The lengths of texts in tokens; zeros where there is none."""

    median: float
    max: int


class KindCard(Part):
    """The rows of one kind."""

    rows: int
    unique: int
    chosen: int
    rejected: int
    train: int
    dev: int
    test: int
    corrected: int
    unseen: int = 0
    near_duplicates: int = 0
    too_coarse: int = 0
    prompt_tokens: Lengths
    solution_tokens: Lengths
    answer_digits: Lengths | None = None


class SplitCard(Part):
    """One part of the chosen rows."""

    rows: int
    tokens: int


class Leaks(Part):
    """Training rows that overlap with scored texts: reading questions, or problems of dev and test."""

    retained_overlap: int
    retained_overlap_by_kind: dict[str, int] = Field(default_factory=dict)
    held_overlap_by_kind: dict[str, int] = Field(default_factory=dict)
    held_twins_by_kind: dict[str, int] = Field(default_factory=dict)


class SourceFile(Part):
    """A file that rows were read from."""

    file: str
    sha256: str
    bytes: int


class Card(Part):
    """data/card.json."""

    files: list[SourceFile]
    formats: dict[str, str] = Field(default_factory=dict)
    test_files: list[SourceFile] = Field(default_factory=list)
    test_rejected: int = 0
    rows_read: int
    rows_rejected: int
    rejected_by_reason: dict[str, int]
    rows_kept: int
    unique: int
    duplicates: int
    conflicts: int = 0
    ambiguous: int = 0
    special_tokens_stripped: int = 0
    unwrapped: int = 0
    max_tokens: int = 0
    truncated: int = 0
    left_out: int = 0
    spelling: str = "plain"
    kinds: dict[str, KindCard]
    splits: dict[str, SplitCard]
    too_long_dropped: int
    leaks: Leaks
    data_sha256: str
