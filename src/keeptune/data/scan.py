"""Scans the input rows once: reads, recognizes, verifies and counts each row, and offers it to the selection.

A scan covers some shards and returns a summary. Summaries of different shards can be merged. So the same function runs
in this process, in several processes or on a cluster, and the rows never need to fit into one memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path

from keeptune.config.data import DataSection
from keeptune.data.chat_rows import check_rendering
from keeptune.data.columns import RowLayout
from keeptune.data.distinct_counter import NO_ANSWER, DistinctCounter
from keeptune.data.reader import RawRow, RejectedRow, read_shard, reject
from keeptune.data.row import find_question
from keeptune.data.selection import Candidate, Selection, SelectionRules
from keeptune.data.sources import Shard
from keeptune.data.special_tokens import SpecialTokenFilter
from keeptune.data.workers import garbage_collection_paused
from keeptune.errors import DataError
from keeptune.prompts.token_count import ChatRows
from keeptune.skills.arithmetic.contest_corpus import generate_corpus
from keeptune.skills.base import Skill

SYNTHETIC = "synth"
"""Used as the file name of generated rows."""

CONFLICT = "the same problem with different answers"
"""The reason for rejecting a row whose problem occurs with different answers."""

_SAMPLE_ROWS, _MAX_REMEMBERED_ROWS = 4_000, 60_000
"""Rows per kind that are remembered to find out whether the kind has copies, and the maximum for kinds that do."""

_ROWS_PER_COPY = 40
"""A kind is considered to have copies if at least one of this many rows was a copy."""


@dataclass(frozen=True, slots=True)
class ScanTask:
    """The shards to scan, numbered in input order, with all settings that determine what happens to their rows."""

    shards: tuple[tuple[int, Shard], ...]
    section: DataSection
    skill: Skill
    rules: SelectionRules
    scratch: Path
    """A folder that every worker can write to."""
    name: str
    """A name that is unique among the tasks."""
    special_tokens: tuple[str, ...] = ()
    """The tokenizer's special tokens, which may not be in the texts of rows."""
    chat: ChatRows | None = None
    """The check of rows under a chat prompt; None for a template, which rejects conversations."""
    ambiguous: frozenset[bytes] = frozenset()
    """The ranks of problems to reject because they occur with different answers."""


@dataclass(slots=True)
class ScanResult:
    """The summary of a scan. The rows read are the accepted rows and the rejected rows."""

    selection: Selection
    rows_read: int = 0
    unwrapped: int = 0
    stripped: int = 0
    """Rows from which special tokens were removed."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Accepted rows per kind."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Rows rejected because of a wrong solution, per kind."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Rejected rows per reason."""
    first: dict[str, tuple[int, int, str, str]] = field(default_factory=dict)
    """The first row rejected for each reason, as (shard number, line, file, reason with its details)."""

    @property
    def rejected(self) -> int:
        """The number of rejected rows."""
        return self.reasons.total()

    def rejected_by_reason(self) -> dict[str, int]:
        """Return the number of rejected rows per reason, the most frequent reason first."""
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))

    def merge(self, other: ScanResult) -> None:
        """Add the summary of other shards."""
        self.selection.merge(other.selection)
        self.rows_read += other.rows_read
        self.unwrapped += other.unwrapped
        self.stripped += other.stripped
        self.accepted += other.accepted
        self.wrong += other.wrong
        self.reasons += other.reasons
        for reason, place in other.first.items():
            self.first[reason] = min(place, self.first.get(reason, place))


def scan(task: ScanTask) -> ScanResult:
    """Scan the shards of a task. The rejected rows of each shard are written to a file in `scratch`."""
    with garbage_collection_paused():
        return _scan(task)


class _CopyDetector:
    """Remembers verified rows of the kinds that have copies, so that copies need not be verified again.

    A third of the contest's rows are copies, nearly all of them in six kinds. A copy takes a tenth of the time of a new
    row.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], str] = {}
        self._remembered: Counter[str] = Counter()
        self._copies: Counter[str] = Counter()

    def kind_of_copy(self, row: RawRow) -> str | None:
        """Return the kind of a row that occurred in the same file before, or None."""
        kind = self._kinds.get((row.problem, row.solution, row.file))
        if kind is not None:
            self._copies[kind] += 1
        return kind

    def remember(self, row: RawRow, kind: str) -> None:
        """Remember a row, unless its kind has hardly any copies or too many rows are remembered."""
        count = self._remembered[kind]
        has_copies = self._copies[kind] * _ROWS_PER_COPY > count
        if count < _SAMPLE_ROWS or (count < _MAX_REMEMBERED_ROWS and has_copies):
            self._kinds[row.problem, row.solution, row.file] = kind
            self._remembered[kind] = count + 1


def _scan(task: ScanTask) -> ScanResult:
    result = ScanResult(Selection(task.rules))
    counter, copies = DistinctCounter(task.scratch, task.name, task.skill.kinds), _CopyDetector()
    special_tokens = SpecialTokenFilter(task.special_tokens, task.section.special_tokens)
    for number, shard in task.shards:
        rejected = []
        for row in map(special_tokens.apply, _read_rows(shard, task.section, task.chat is not None)):
            result.rows_read += 1
            rejection = row if isinstance(row, RejectedRow) else _process(row, task, result, counter, copies)
            if rejection is not None:
                rejected.append(rejection)
        _record_rejected(rejected, number, result, task)
    counter.flush()
    result.stripped = special_tokens.stripped
    result.selection.prune()
    return result


def _process(
    row: RawRow, task: ScanTask, result: ScanResult, counter: DistinctCounter, copies: _CopyDetector
) -> RejectedRow | None:
    """Count a row and offer it to the selection. Return its rejection, or None if it is accepted."""
    checked = check_rendering(row, task.chat)
    if isinstance(checked, RejectedRow):
        return checked
    row = checked
    known_kind = copies.kind_of_copy(row)
    if known_kind is not None:
        result.accepted[known_kind] += 1
        result.unwrapped += row.unwrapped
        return None
    try:
        question = find_question(task.skill, row)
    except DataError as error:
        raise DataError(f"{row.file}:{row.line}: {error}") from None
    if isinstance(question, str):
        return reject(row.file, row.line, question, f"{row.problem}\n{row.solution}")
    kind = question.kind
    # Excluded kinds are not verified: a kind may be excluded because its solutions are wrong.
    fault = task.skill.find_error(question, row.solution) if kind in task.rules.kind_set else None
    if fault and task.section.wrong == "reject":
        result.wrong[kind] += 1
        return reject(row.file, row.line, fault, f"{row.problem}\n{row.solution}")
    has_stated_answer = kind in task.skill.free_text_kinds and kind in task.rules.kind_set
    is_own_problem = has_stated_answer and task.section.conflicts == "all"
    rank = result.selection.rank(f"{question.text}\0{question.truth}" if is_own_problem else question.text)
    if has_stated_answer and rank in task.ambiguous:
        reason = f"{CONFLICT}: here {str(question.truth)[:60]!r}; repair the rows, or set data.conflicts: first or all"
        return reject(row.file, row.line, reason, f"{row.problem}\n{row.solution}")
    result.accepted[kind] += 1
    result.unwrapped += row.unwrapped
    answer = _hash(str(question.truth)) if has_stated_answer else NO_ANSWER
    counter.add(kind, rank, _hash(row.solution), answer)
    if result.selection.can_select(kind, rank):
        result.selection.add(Candidate(question, row.solution, fault, row.file, row.line, row.conversation), rank)
    # A copy with another label, or in another slice, must be processed again.
    if row.label is None and not task.rules.slices:
        copies.remember(row, kind)
    return None


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def read_rejected_lines(scratch: Path) -> Iterator[str]:
    """Yield the JSON lines of all rejected rows that scans wrote to `scratch`, in input order."""
    for path in sorted(scratch.glob("rejected-*")):
        with path.open(encoding="utf-8") as file:
            yield from file


def _read_rows(shard: Shard, section: DataSection, conversations: bool) -> Iterator[RawRow | RejectedRow]:
    if shard.file != SYNTHETIC or section.synth is None:
        return read_shard(shard, RowLayout.from_section(section, conversations))
    synth = section.synth
    generated = generate_corpus(synth.rows, synth.seed, any_length=synth.any_length, close_calls=synth.close_calls)
    rows = enumerate(generated, start=1)
    return (RawRow(SYNTHETIC, number, row["problem"], row["solution"]) for number, row in rows)


def _record_rejected(rejected: list[RejectedRow], number: int, result: ScanResult, task: ScanTask) -> None:
    """Count the rejected rows of a shard and write them to its file."""
    for row in rejected:
        reason = row.reason.partition(":")[0]
        result.reasons[reason] += 1
        result.first.setdefault(reason, (number, row.line, row.file, row.reason))
    if rejected:
        with (task.scratch / f"rejected-{number:08}").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected)
