"""One pass over the rows: each is read, understood, verified, counted and offered to the selection.

A pass covers some shards and leaves a summary; summaries of different shards merge into that of all. So the same
function runs here, in several processes, or on a cluster, over rows that need never be in one memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path

from keeptune.config.data import DataSection
from keeptune.data.distinct_counter import Tally
from keeptune.data.reader import Rejected, Row, read_shard, reject
from keeptune.data.row import NOT_UNDERSTOOD
from keeptune.data.selection import Candidate, Rules, Selection
from keeptune.data.sources import Shard
from keeptune.data.workers import without_collector
from keeptune.skills.arithmetic.contest_corpus import generate_corpus
from keeptune.skills.base import Skill

SYNTH = "synth"
"""Stands for the file name of invented rows."""

_TRIED_ROWS, _HELD_ROWS = 4_000, 60_000
"""Rows of a kind that are remembered to learn whether it repeats, and at most."""

_ROWS_A_COPY = 40
"""A kind repeats if one of so many rows was a copy."""


@dataclass(frozen=True, slots=True)
class Task:
    """Shards, by their number in the order of the input, and all that decides what becomes of their rows.

    `scratch` is a folder that every worker can write into; `name` tells the tasks apart there.
    """

    shards: tuple[tuple[int, Shard], ...]
    section: DataSection
    skill: Skill
    rules: Rules
    scratch: Path
    name: str


@dataclass(slots=True)
class Gathered:
    """What a pass found. rows read = kept + rejected. `first` is where each reason occurred first."""

    selection: Selection
    read: int = 0
    unwrapped: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """How many rows are not used."""
        return self.reasons.total()

    def by_reason(self) -> dict[str, int]:
        """How many rows were rejected for each reason, the commonest first."""
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))

    def merge(self, other: Gathered) -> None:
        """Takes in what was found in other shards."""
        self.selection.merge(other.selection)
        self.read += other.read
        self.unwrapped += other.unwrapped
        self.kept += other.kept
        self.wrong += other.wrong
        self.reasons += other.reasons
        for reason, place in other.first.items():
            self.first[reason] = min(place, self.first.get(reason, place))


def gather(task: Task) -> Gathered:
    """What stands in the task's shards. The rejected rows of each are written to a file in `scratch`."""
    with without_collector():
        return _gather(task)


class _Repeats:
    """Rows that were understood and found right, of the kinds that repeat rows: their copies need no second look.

    A third of the contest's rows are copies, nearly all of them of six kinds; a copy costs a tenth of a new row.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], str] = {}
        self._held: Counter[str] = Counter()
        self._met: Counter[str] = Counter()

    def kind_of(self, row: Row) -> str | None:
        """The kind of a row that stood in the same file before, or None."""
        kind = self._kinds.get((row.problem, row.solution, row.file))
        if kind is not None:
            self._met[kind] += 1
        return kind

    def note(self, row: Row, kind: str) -> None:
        """Remembers a row, unless rows of its kind hardly ever repeat or too many are held."""
        held = self._held[kind]
        if held < _TRIED_ROWS or (held < _HELD_ROWS and self._met[kind] * _ROWS_A_COPY > held):
            self._kinds[row.problem, row.solution, row.file] = kind
            self._held[kind] = held + 1


def _gather(task: Task) -> Gathered:
    found = Gathered(Selection(task.rules))
    tally, repeats = Tally(task.scratch, task.name, task.skill.kinds), _Repeats()
    for number, shard in task.shards:
        rejected = []
        for row in _rows(shard, task.section):
            found.read += 1
            bad = row if isinstance(row, Rejected) else _take(row, task, found, tally, repeats)
            if bad is not None:
                rejected.append(bad)
        _note(rejected, number, found, task)
    tally.flush()
    found.selection.trim()
    return found


def _take(row: Row, task: Task, found: Gathered, tally: Tally, repeats: _Repeats) -> Rejected | None:
    """Counts a row and offers it to the selection, or says why it is not used."""
    known = repeats.kind_of(row)
    if known is not None:
        found.kept[known] += 1
        found.unwrapped += row.unwrapped
        return None
    question = task.skill.parse(row.problem, row.solution, row.label)
    if question is None:
        return reject(row.file, row.line, NOT_UNDERSTOOD, f"{row.problem}\n{row.solution}")
    kind = question.kind
    # What is not taught needs no proof: a kind may be left out because its solutions are wrong.
    fault = task.skill.find_error(question, row.solution) if kind in task.rules.kinds else None
    if fault and task.section.wrong == "reject":
        found.wrong[kind] += 1
        return reject(row.file, row.line, fault, f"{row.problem}\n{row.solution}")
    found.kept[kind] += 1
    found.unwrapped += row.unwrapped
    rank = found.selection.rank(question.text)
    tally.add(kind, rank, blake2b(row.solution.encode(), digest_size=8).digest())
    if found.selection.is_open(kind, rank):
        found.selection.add(Candidate(question, row.solution, fault, row.file, row.line), rank)
    # A copy may have another label, or stand in another slice.
    if row.label is None and not task.rules.slices:
        repeats.note(row, kind)
    return None


def rejected_rows(scratch: Path) -> Iterator[str]:
    """The lines of all rejected rows that passes left in `scratch`, in the order of the input."""
    for path in sorted(scratch.glob("rejected-*")):
        with path.open(encoding="utf-8") as file:
            yield from file


def _rows(shard: Shard, section: DataSection) -> Iterator[Row | Rejected]:
    if shard.file != SYNTH or section.synth is None:
        return read_shard(shard, section.columns)
    synth = section.synth
    made = generate_corpus(synth.rows, synth.seed, any_length=synth.any_length, close_calls=synth.close_calls)
    rows = enumerate(made, start=1)
    return (Row(SYNTH, number, row["problem"], row["solution"]) for number, row in rows)


def _note(rejected: list[Rejected], number: int, found: Gathered, task: Task) -> None:
    """Counts a shard's rejected rows and writes them down."""
    for row in rejected:
        reason = row.reason.partition(":")[0]
        found.reasons[reason] += 1
        found.first.setdefault(reason, (number, row.line, row.file))
    if rejected:
        with (task.scratch / f"rejected-{number:08}").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected)
