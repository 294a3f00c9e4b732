"""What every skill offers to the rest of keeptune.

A skill knows its problems: it recognises their kind, knows the exact answer, writes the reasoning that leads
to it, and invents new ones. Everything here is pure Python and exact; no stage after this one may guess.
"""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

from keeptune.config.solution_format import Rounding, Style
from keeptune.grading.answers import Truth


class Question(NamedTuple):
    """A problem that a skill has understood: its kind, its text, and its exact answer. A tuple, because millions are
    made."""

    kind: str
    text: str
    truth: Truth


class Skill(Protocol):
    """A narrow ability that can be taught: recognise, verify, write, invent."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of all kinds of problem, in a fixed order."""

    @property
    def free_text(self) -> frozenset[str]:
        """The kinds whose problems differ in more than their numbers."""

    def read(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """The question, or None when the problem is of no known kind. `solution` is consulted only by kinds
        whose truth cannot be computed from the problem (free text with a boxed answer); `label` is the kind that
        a column of the row names, where the recipe has one."""

    def fault(self, question: Question, solution: str) -> str | None:
        """Why a stored solution is wrong, or None when its answer agrees with the exact value and its steps hold.
        What precedes a colon is the same for all faults of one sort, so that they can be counted."""

    def solve(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
        """The solution text to train on, ending in a line `#### answer` (except style "raw"). `solution` is the
        stored one; only "raw", and kinds whose truth comes from it, make use of it."""

    def check(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:
        """Why a written solution is wrong (a step that does not hold, or a wrong answer), or None. Where `rounding`
        is coarser than the headline grader, the answer is right if it is the exact value rounded so."""

    def twin(self, question: Question) -> str:
        """A text that is the same for problems so alike that one gives the other away, such as a + b and b + a."""

    def invent(self, kind: str, generator: random.Random) -> tuple[str, str]:
        """A random (problem, raw solution) of that kind, in the data set's ranges and format."""
