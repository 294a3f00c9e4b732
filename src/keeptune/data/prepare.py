"""The data stage: from files, or an invented corpus, to train, dev and test, and a card that accounts for every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.data import card as cards
from keeptune.data.card import Card, KindCard
from keeptune.data.leak import overlapping, shared_problems
from keeptune.data.read import Rejected, Row, read_rows, reject
from keeptune.data.rewrite import CountTokens, Example, fit, rewrite
from keeptune.data.select import Candidate, Choice, choose, digest, wanted_kinds
from keeptune.data.split import PARTS, Part, split
from keeptune.data.writer.rows import with_written_texts
from keeptune.errors import DataError, RunError
from keeptune.files import unwritable, write_whole
from keeptune.recipe import DataSection, Recipe
from keeptune.score.reading import reading_items
from keeptune.skill.base import Skill
from keeptune.skill.synth import corpus

SYNTH = "synth"
"""Stands for the file name of invented rows."""

_COLUMNS = [column.name for column in fields(Example)]
_SCHEMA = pa.schema(
    [(name, pa.int64() if name in ("line", "prompt_tokens", "solution_tokens") else pa.string()) for name in _COLUMNS]
)


def prepare(recipe: Recipe, skill: Skill, count_tokens: CountTokens, directory: Path) -> Card:
    """The data card, after train, dev and test, the rejected rows and the card itself are in `directory`.

    errors: RecipeError for a kind that does not exist; DataError for files that cannot be read, too many rejected
    rows, impossible quotas or splits, wrong or too long solutions; RunError when `directory` cannot be written;
    WriterError when the server of data.writer cannot be reached or fails too often.
    """
    section = recipe.data
    kinds = wanted_kinds(section, skill.kinds)
    files = [cards.source_file(Path(name)) for name in section.files]
    _begin(directory)
    sieve, choice = _sift(section, skill, kinds, recipe.seed, directory / "rejected.jsonl")
    written = rewrite(choice.rows, skill, section, count_tokens)
    twins = {example.id: skill.twin(row.question) for example, row in zip(written, choice.rows, strict=True)}
    examples = fit(written, section)
    parts = _split(examples, twins, section, recipe.seed)
    origins = {example.id: row for example, row in zip(written, choice.rows, strict=True)}
    parts["train"] = with_written_texts(parts["train"], origins, skill, section, count_tokens, directory)
    card = Card(
        files=files,
        rows_read=sieve.read,
        rows_rejected=sieve.rejected,
        rejected_by_reason=dict(sieve.reasons.most_common()),
        rows_kept=choice.kept.total(),
        unique=choice.unique.total(),
        duplicates=choice.kept.total() - choice.unique.total(),
        conflicts=choice.conflicts,
        kinds=_kind_cards(skill.kinds, sieve.wrong, choice, parts),
        splits=cards.part_cards(parts),
        too_long_dropped=len(written) - len(examples),
        leaks=cards.Leaks(_retained_overlap(parts["train"], recipe.score.retained)),
        data_sha256=cards.data_sha256(parts),
    )
    for part in PARTS:
        _save_examples(parts[part], directory / f"{part}.parquet")
    cards.write(card, directory)
    return card


def load_examples(path: Path) -> list[Example]:
    """The examples in a Parquet file that `prepare` wrote. errors: RunError when it is not there or is not such."""
    try:
        table = pq.read_table(path, columns=_COLUMNS, partitioning=None)
        if table.schema != _SCHEMA:
            raise pa.ArrowInvalid(f"its columns are {table.schema.names}")
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: holds no examples ({error}); delete {path.parent} and run the data stage again"
        ) from None
    return [Example(*values) for values in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)]


@dataclass(slots=True)
class _Sieve:
    """Lets the rows through that are understood and right, writes down the others, and counts."""

    section: DataSection
    skill: Skill
    kinds: tuple[str, ...]
    log: TextIO
    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    def candidates(self, rows: Iterable[Row | Rejected]) -> Iterator[Candidate]:
        """The good rows. errors: DataError when all are read and too many were bad."""
        for row in rows:
            self.read += 1
            judged = self._judge(row) if isinstance(row, Row) else row
            if isinstance(judged, Candidate):
                yield judged
                continue
            reason = judged.reason.partition(":")[0]
            self.reasons[reason] += 1
            self.first.setdefault(reason, f"{judged.file}:{judged.line}")
            self.log.write(json.dumps(asdict(judged), ensure_ascii=False) + "\n")
        if self.rejected > self.section.reject_limit * self.read:
            raise self._too_many()

    def _judge(self, row: Row) -> Candidate | Rejected:
        question = self.skill.read(row.problem, row.solution)
        if question is None:
            return reject(row.file, row.line, "no known kind of problem", f"{row.problem}\n{row.solution}")
        # What is not taught needs no proof: a kind may be left out because its solutions are wrong.
        fault = self.skill.fault(question, row.solution) if question.kind in self.kinds else None
        if fault and self.section.wrong == "reject":
            self.wrong[question.kind] += 1
            return reject(row.file, row.line, fault, f"{row.problem}\n{row.solution}")
        return Candidate(question, row.solution, fault, row.file, row.line)

    def _too_many(self) -> DataError:
        listed = "\n".join(
            f"  {count} × {reason}, first at {self.first[reason]}" for reason, count in self.reasons.most_common()
        )
        return DataError(
            f"{self.rejected} of {self.read} rows are rejected, more than data.reject_limit = "
            f"{self.section.reject_limit:g} allows:\n{listed}\n{self.log.name} has each of them. Repair the files, set "
            "data.exclude or data.wrong, or raise data.reject_limit."
        )


def _begin(directory: Path) -> None:
    """A folder without a card, so that what is left of an earlier attempt is not trusted."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / cards.FILE).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from None


def _sift(
    section: DataSection, skill: Skill, kinds: tuple[str, ...], seed: int, log_path: Path
) -> tuple[_Sieve, Choice]:
    try:
        with log_path.open("w", encoding="utf-8") as log:
            sieve = _Sieve(section, skill, kinds, log)
            choice = choose(sieve.candidates(_rows(section)), kinds, section.quota, section.fraction, seed)
    except OSError as error:
        raise unwritable(log_path, error) from None
    if not choice.rows:
        raise DataError("no problem is chosen; check data.files, data.kinds and data.quota")
    return sieve, choice


def _rows(section: DataSection) -> Iterator[Row | Rejected]:
    for name in section.files:
        yield from read_rows(Path(name))
    if section.synth is not None:
        for number, row in enumerate(corpus(section.synth.rows, section.synth.seed), start=1):
            yield Row(SYNTH, number, row["problem"], row["solution"])


def _split(
    examples: list[Example], twins: Mapping[str, str], section: DataSection, seed: int
) -> dict[Part, list[Example]]:
    placed = split(
        [example.kind for example in examples],
        [twins[example.id] for example in examples],
        section.split.dev,
        section.split.test,
        seed,
    )
    parts = {part: [e for e, place in zip(examples, placed, strict=True) if place == part] for part in PARTS}
    shared = shared_problems(*([example.id for example in parts[part]] for part in PARTS))
    assert not shared, f"problems in two parts: {shared}"
    return parts


def _kind_cards(
    kinds: tuple[str, ...], wrong: Counter[str], choice: Choice, parts: Mapping[Part, list[Example]]
) -> dict[str, KindCard]:
    mistaken = {digest(row.question.text).hex() for row in choice.rows if row.fault}
    return {
        kind: cards.kind_card(
            rows=choice.kept[kind] + wrong[kind],
            rejected=wrong[kind],
            unique=choice.unique[kind],
            parts={part: [example for example in parts[part] if example.kind == kind] for part in PARTS},
            mistaken=mistaken,
        )
        for kind in kinds
    }


def _retained_overlap(examples: list[Example], source: str) -> int:
    """How many examples share a long sequence of words with a passage, question or answer of the reading set."""
    items = reading_items(source)
    retained = {item.context for item in items} | {f"{item.question} {' '.join(item.answers)}" for item in items}
    return overlapping((f"{example.problem}\n{example.solution}" for example in examples), retained)


def _save_examples(examples: list[Example], path: Path) -> None:
    columns = {name: [getattr(example, name) for example in examples] for name in _COLUMNS}
    table = pa.table(columns, schema=_SCHEMA)
    write_whole(path, lambda scratch: pq.write_table(table, scratch, compression="zstd"))
