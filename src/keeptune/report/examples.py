"""Selects the answers that a report shows in full: from each kind in turn, and the same ones every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from keeptune.grading.base import RIGHT
from keeptune.grading.number import HEADLINE
from keeptune.run_files.records import Answer, ReadingAnswer


@dataclass(frozen=True, slots=True)
class Example:
    """One question with the answers of both models."""

    base: Answer | None
    tuned: Answer

    @property
    def base_is_right(self) -> bool:
        """Whether the base answered correctly."""
        return self.base is not None and is_right(self.base)


@dataclass(frozen=True, slots=True)
class ReadingExample:
    """One reading question with both answers."""

    base: ReadingAnswer
    tuned: ReadingAnswer

    @property
    def change(self) -> float:
        """The F1 gained by tuning, in points."""
        return self.tuned.squad.f1 - self.base.squad.f1


def is_right(answer: Answer) -> bool:
    """Whether an answer gets the full score of its grader, or the headline verdict without one."""
    return answer.verdicts.get(HEADLINE, False) if answer.score is None else answer.score >= RIGHT


def pick(base: Sequence[Answer], tuned: Sequence[Answer], right: bool, limit: int = 10) -> list[Example]:
    """At most `limit` right (or wrong) tuned answers: one of each kind in turn, in the order of their ids.

    An id is a hash of the problem, so the order is random but never changes.
    """
    by_kind: dict[str, list[Answer]] = {}
    for answer in sorted(tuned, key=lambda answer: (answer.kind, answer.id)):
        if is_right(answer) == right:
            by_kind.setdefault(answer.kind, []).append(answer)
    in_turn = [answer for row in zip_longest(*by_kind.values()) for answer in row if answer is not None]
    before = {answer.id: answer for answer in base}
    return [Example(before.get(answer.id), answer) for answer in in_turn[:limit]]


def pick_reading(base: Sequence[ReadingAnswer], tuned: Sequence[ReadingAnswer], limit: int = 6) -> list[ReadingExample]:
    """At most `limit` reading questions: the largest losses, the largest gains, and unchanged ones, a third each."""
    before = {answer.id: answer for answer in base}
    pairs = [ReadingExample(before[answer.id], answer) for answer in tuned if answer.id in before]
    ordered = sorted(pairs, key=lambda pair: (pair.change, pair.tuned.id))
    third = limit // 3
    lost = [pair for pair in ordered if pair.change < 0][:third]
    gained = [pair for pair in reversed(ordered) if pair.change > 0][:third]
    same = [pair for pair in ordered if pair.change == 0]
    return [*lost, *gained, *same[: limit - len(lost) - len(gained)]]
