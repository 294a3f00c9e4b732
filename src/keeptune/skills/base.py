"""Interface that every skill implements.

A skill parses its problems, computes the exact answer, renders solutions, verifies them, and generates new problems.
All of this is pure Python with exact arithmetic. Later stages rely on the answers and never recompute them.
"""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

from keeptune.config.solution_format import Rounding, Style
from keeptune.grading.answers import Truth
from keeptune.grading.base import Grader


class Question(NamedTuple):
    """A parsed problem: its kind, its text and its exact answer.

    A named tuple, because a corpus has millions of them.
    """

    kind: str
    text: str
    truth: Truth


class UnusableRowError(Exception):
    """A row of a known kind cannot be used. The text before a colon is the same for all rows with the same fault."""


class Skill(Protocol):
    """A narrow ability that can be trained, with its problems, answers and solutions."""

    @property
    def name(self) -> str:
        """The name of the skill in recipes and adapters."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of all problem kinds, in a fixed order."""

    @property
    def free_text_kinds(self) -> frozenset[str]:
        """The kinds whose problems differ in more than their numbers."""

    @property
    def grader(self) -> Grader | None:
        """The grader of answers; None if they are exact values, which `grading.number.grade` compares."""

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """Return the question, or None if the problem is of no known kind.

        Args:
            problem: The text of the problem.
            solution: The stored solution. Only free-text kinds use it, because their answer cannot be computed from
                the problem.
            label: The kind named by a column of the row, if the recipe has such a column.

        Raises:
            UnusableRowError: the kind is known, but the answer of the solution cannot be graded.
        """

    def explain_rejection(self, problem: str, solution: str, label: str | None = None) -> str:
        """Return why `parse` returns None for a row, and what to do.

        The text before the colon is the same for all rows with this reason, so that reports can count them.
        """

    def find_error(self, question: Question, solution: str) -> str | None:
        """Return why a stored solution is wrong, or None if its answer is exact and its steps hold.

        The text before the colon is the same for all errors of one type, so that reports can count them.
        """

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
        """Return the solution text to train on, which ends in a line `#### answer` unless the style is "raw".

        `solution` is the stored solution. Only the style "raw" and free-text kinds use it.
        """

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:
        """Return why a rendered solution is wrong (a false step or a wrong answer), or None.

        If `rounding` is coarser than the headline grader, the right answer is the exact value rounded that way.
        """

    def canonical_form(self, question: Question) -> str:
        """Return a text that is equal for problems whose answers follow from each other, such as a + b and b + a."""

    def generate(self, kind: str, generator: random.Random) -> tuple[str, str]:
        """Return a random (problem, raw solution) of a kind, in the ranges and the format of the data set."""
