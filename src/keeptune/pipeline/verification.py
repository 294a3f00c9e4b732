"""The outcome of a verification: the counts of what was checked, and each difference with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile, zip_longest
from typing import Any

_SHOWN, _SHOWN_BEFORE = 80, 20


@dataclass(frozen=True, slots=True)
class Fault:
    """A stored value that differs from the recomputed one."""

    place: str
    stored: Any
    recomputed: Any

    def __str__(self) -> str:
        stored, recomputed = self.stored, self.recomputed
        if isinstance(stored, str) and isinstance(recomputed, str):
            # Long texts, such as prompts, are cut to the surroundings of their first difference.
            same = takewhile(lambda pair: pair[0] == pair[1], zip(stored, recomputed, strict=False))
            start = max(0, sum(1 for _ in same) - _SHOWN_BEFORE)
            stored, recomputed = _around(stored, start), _around(recomputed, start)
        return f"{self.place}: {stored!r} is stored, {recomputed!r} follows"


@dataclass(slots=True)
class Verification:
    """The numbers of checked values, the differences, and the absent files, which were not compared."""

    answers: int = 0
    figures: int = 0
    hashes: int = 0
    faults: list[Fault] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    made_by: str = ""
    checked_by: str = ""
    stopped_by: str = ""
    """The error that ended the checks, where a damaged file explains it."""

    def expect(self, place: str, stored: Any, recomputed: Any) -> None:
        """Records a fault unless both are equal."""
        if stored != recomputed:
            self.faults.append(Fault(place, stored, recomputed))

    def expect_each(self, place: str, stored: Sequence[Any], recomputed: Sequence[Any]) -> None:
        """Records the first place where two lists differ."""
        for line, pair in enumerate(zip_longest(stored, recomputed), start=1):
            if pair[0] != pair[1]:
                self.faults.append(Fault(f"{place}, line {line}", *pair))
                return


def text(verification: Verification) -> str:
    """The verification as text."""
    faults = verification.faults
    counts = f"{verification.figures} figures and {verification.hashes} hashes recomputed"
    outcome = f"{len(faults)} do not follow" if faults else "all of it follows"
    lines = [f"{verification.answers:,} answers graded again, {counts}: {outcome}"]
    lines += [f"  {fault}" for fault in faults]
    if faults and verification.made_by != verification.checked_by:
        versions = f"made by {verification.made_by}, recomputed by {verification.checked_by}"
        lines.append(f"{versions}: what the code changed differs, too")
    if verification.stopped_by:
        lines.append(f"further checks were not possible: {verification.stopped_by}")
    if verification.absent:
        lines.append(f"not here, so not compared: {', '.join(verification.absent)}")
    return "\n".join(lines)


def _around(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut}{'…' if start + _SHOWN < len(text) else ''}"
