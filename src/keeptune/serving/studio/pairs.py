"""Pairs of answers to the same item: base and tuned of a run, or the tuned models of two runs.

The records in scores/ are read once and kept in memory until their files change, so that paging and search are quick.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from keeptune.config.ability_names import READING_ABILITY, TASK_PREFIX
from keeptune.files import read_records, stored_content
from keeptune.grading.base import RIGHT
from keeptune.report.examples import is_right
from keeptune.report.item_views import Turn, facts_of, output_of, result_of, turns_of
from keeptune.report.items import loss_per_token, score
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.records import Answer, ItemRecord
from keeptune.serving.studio.runs import contained

BASE, TUNED = "base", "tuned"
SKILL = "skill"

KEPT = 4
"""How many runs and comparisons stay in memory."""


@dataclass(frozen=True, slots=True)
class Side:
    """One model's answer.

    Attributes:
        output: what the model wrote or chose.
        result: what the grader says about it.
        score: from 0 to 1; None where the item has none.
        loss: in nats per token; None where the item has none.
    """

    output: str
    result: str
    score: float | None
    loss: float | None

    @property
    def is_right(self) -> bool | None:
        """Whether the answer has the full score; None where it has none."""
        return None if self.score is None else self.score >= RIGHT


@dataclass(frozen=True, slots=True)
class Graded:
    """An item with one model's answer.

    Attributes:
        source: `skill`, or the name of an ability.
        kind: the kind of problem, the phenomenon, or the language.
        turns: the parts of the question.
        facts: what else the item states, such as the right answer.
    """

    source: str
    kind: str
    id: str
    turns: tuple[Turn, ...]
    facts: tuple[tuple[str, str], ...]
    side: Side


@dataclass(frozen=True, slots=True)
class Pair:
    """One item with two answers; `text` is all of it in lower case, for the search."""

    item: Graded
    before: Side
    after: Side
    text: str

    @property
    def change(self) -> float:
        """The gain in score; 0 where the item has no score."""
        if self.before.score is None or self.after.score is None:
            return 0.0
        return self.after.score - self.before.score

    @property
    def length(self) -> int:
        """The number of characters of the longer answer."""
        return max(len(self.before.output), len(self.after.output))


def record_files(directory: RunDirectory, variant: str) -> dict[str, Path]:
    """The files of answers of one model in a run: by `skill`, `tasks`, or the name of an ability."""
    paths = {SKILL: directory.records("skill", variant), "tasks": directory.records("tasks", variant)}
    prefix, suffix = "ability-", f"-{variant}.jsonl"
    for path in sorted(directory.scores.glob(f"{prefix}*{suffix}")):
        paths[path.name.removeprefix(prefix).removesuffix(suffix)] = path
    # Runs without the suite have reading questions only.
    paths.setdefault(READING_ABILITY, directory.records("retained", variant))
    return {name: path for name, path in paths.items() if path.is_file()}


def read_answers(directory: RunDirectory, variant: str) -> Iterator[Graded]:
    """The graded answers of one model in a run.

    Raises:
        RunError: naming the file and line that is damaged.
    """
    for name, path in record_files(directory, variant).items():
        yield from read_file(contained(directory, path), name)


def read_file(path: Path, name: str) -> Iterator[Graded]:
    """The graded answers of one file, which `record_files` has under this name.

    Raises:
        RunError: naming the file and line that is damaged.
    """
    is_skill = name == SKILL
    with stored_content(path):
        for record in read_records(path, Answer if is_skill else ItemRecord):
            yield _skill_answer(record) if is_skill else _item_answer(record, name)


def _skill_answer(record: dict[str, object]) -> Graded:
    answer = Answer.model_validate(record)
    right = is_right(answer)
    value = float(right) if answer.score is None else answer.score
    found = "" if answer.answer is None else answer.answer
    side = Side(answer.output, found, _finite(value), None)
    turns = (Turn("", answer.problem),)
    return Graded(SKILL, answer.kind, answer.id, turns, (("right answer", answer.truth),), side)


def _item_answer(record: dict[str, object], name: str) -> Graded:
    item = ItemRecord.model_validate(record)
    source = f"{TASK_PREFIX}{item.task}" if item.task is not None else name
    value = score(item)
    side = Side(output_of(item) or "", result_of(item, value), _finite(value), _finite(loss_per_token(item)))
    kind = item.phenomenon or item.language or ""
    return Graded(source, kind, item.id, tuple(turns_of(item)), tuple(facts_of(item)), side)


def _finite(value: float | None) -> float | None:
    """The value; None for infinity and nan, which JSON lacks."""
    return value if value is not None and isfinite(value) else None


def pair_up(before: Sequence[Graded], after: Sequence[Graded]) -> list[Pair]:
    """The items that both models answered, in the order of `after`. An item whose question differs is left out."""
    sides = {(item.source, item.id): item for item in before}
    pairs = []
    for item in after:
        other = sides.get((item.source, item.id))
        if other is not None and other.turns == item.turns:
            pairs.append(Pair(item, other.side, item.side, _search_text(item, other)))
    return pairs


def _search_text(item: Graded, other: Graded) -> str:
    parts = [turn.content for turn in item.turns] + [value for _, value in item.facts]
    return "\n".join([item.id, item.kind, *parts, other.side.output, item.side.output]).casefold()


class PairCache:
    """The pairs of the runs that were asked for last. Threads may share it."""

    def __init__(self) -> None:
        self._entries: OrderedDict[object, list[Pair]] = OrderedDict()
        self._lock = threading.Lock()

    def of_run(self, directory: RunDirectory) -> list[Pair]:
        """Base and tuned of a run.

        Raises:
            RunError: naming the file and line that is damaged.
        """
        return self._get((directory, BASE), (directory, TUNED))

    def of_runs(self, first: RunDirectory, second: RunDirectory) -> list[Pair]:
        """The tuned models of two runs.

        Raises:
            RunError: naming the file and line that is damaged.
        """
        return self._get((first, TUNED), (second, TUNED))

    def _get(self, before: tuple[RunDirectory, str], after: tuple[RunDirectory, str]) -> list[Pair]:
        key = (_state(*before), _state(*after))
        return self._cached(key, lambda: pair_up(list(read_answers(*before)), list(read_answers(*after))))

    def _cached(self, key: object, load: Callable[[], list[Pair]]) -> list[Pair]:
        with self._lock:  # one thread reads the files, and the others wait for it
            if key not in self._entries:
                self._entries[key] = load()
            self._entries.move_to_end(key)
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
            return self._entries[key]


def _state(directory: RunDirectory, variant: str) -> tuple[tuple[Path, int, int], ...]:
    """The files of answers with their times and sizes, which change when the files do."""
    states = ((path, path.stat()) for path in record_files(directory, variant).values())
    return tuple((path, state.st_mtime_ns, state.st_size) for path, state in states)
