"""Skill for rows in free text, whose answers cannot be computed from the problem.

Such rows are word problems, questions about a product, or tables of examples. The truth is the answer that the stored
solution states. The equations of the solution are still verified, and the grader must be able to read its answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import regex

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Style
from keeptune.errors import DataError, RecipeError
from keeptune.grading.answers import Truth
from keeptune.grading.base import Grader
from keeptune.grading.number import grade
from keeptune.grading.stated_answer import (
    format_answer_line,
    normalize_answer,
    parse_normalized_number,
    parse_stated_truth,
)
from keeptune.grading.timed_patterns import MATCH_SECONDS
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.base import Question
from keeptune.skills.rejection import describe_unreadable_answer
from keeptune.skills.stored_solution import add_answer_line

UNLISTED_KIND = "(not in data.kinds)"
"""The kind of rows whose kind column has a value that data.kinds does not list. No column has this value."""

QUOTED_CHARACTERS = 60

DEFAULT_KIND = "text"
"""The kind of all rows if the recipe has neither patterns nor a kind column."""


class Text:
    """Free-text skill: kinds come from regular expressions or from a column, and solutions stay as they are.

    Args:
        patterns: A regular expression per kind. Each must match the whole problem; the first match wins.
        labels: The values of the kind column that the recipe lists.
    """

    name = "text"
    grader: Grader | None = None

    def __init__(self, patterns: Mapping[str, str], labels: tuple[str, ...] = ()) -> None:
        self.patterns = {kind: regex.compile(pattern, regex.DOTALL) for kind, pattern in patterns.items()}
        self.labels = frozenset(labels)
        self.kinds = (*patterns,) or ((*labels, UNLISTED_KIND) if labels else (DEFAULT_KIND,))
        self.free_text_kinds = frozenset(self.kinds)

    @classmethod
    def from_section(cls, section: DataSection) -> Text:
        """Return the skill that the data section of a recipe describes."""
        return cls(section.patterns, section.kinds if section.columns.kind else ())

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """Return the question, or None if no pattern matches the problem or no grader can read the answer."""
        kind = self.find_kind(problem, label)
        if kind is None:
            return None
        truth = parse_truth_or_text(solution)
        return Question(kind, problem, truth) if grade(format_answer_line(solution), truth).correct else None

    def explain_rejection(self, problem: str, solution: str, label: str | None = None) -> str:
        """Return why `parse` returns None: no pattern matches, or no grader can read the answer."""
        if self.find_kind(problem, label) is None:
            return (
                f"no pattern matches the problem: data.patterns has {', '.join(map(repr, self.patterns))}; add a "
                "pattern for these rows, such as other: '.*'"
            )
        return describe_unreadable_answer(solution)

    def find_error(self, question: Question, solution: str) -> str | None:  # noqa: ARG002
        """Return the first equation of a stored solution that does not hold, or None."""
        step = find_false_step(solution)
        return None if step is None else f"wrong step: {step}"

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:  # noqa: ARG002
        """Return the stored solution (raw), with an answer line at its end, or only that line (answer)."""
        return add_answer_line(solution, style)

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:  # noqa: ARG002
        """Return why a rendered solution is wrong, or None."""
        if style != "raw" and not grade(solution, question.truth).correct:
            return "the final answer differs from the stored solution"
        return self.find_error(question, solution)

    def canonical_form(self, question: Question) -> str:
        """Return the problem itself, because equivalent free-text problems cannot be recognized."""
        return question.text

    def generate(self, kind: str, generator: random.Random) -> tuple[str, str]:  # noqa: ARG002
        """Raise an error, because free-text rows cannot be generated.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError("data.synth supports only arithmetic rows; set data.files for data.skill: text")

    def find_kind(self, problem: str, label: str | None) -> str | None:
        """Return the kind of a row by its label or the patterns, or None if no pattern matches."""
        if self.labels:
            return label if label in self.labels else UNLISTED_KIND
        if not self.patterns:
            return DEFAULT_KIND
        return next((kind for kind in self.patterns if self._matches(kind, problem)), None)

    def _matches(self, kind: str, problem: str) -> bool:
        try:
            return self.patterns[kind].fullmatch(problem, timeout=MATCH_SECONDS) is not None
        except TimeoutError:
            raise DataError(
                f"data.patterns.{kind}: takes more than {MATCH_SECONDS:g} seconds on the problem "
                f"{problem[:QUOTED_CHARACTERS]!r}; write it without nested repetition such as (a+)+"
            ) from None


def parse_truth_or_text(solution: str) -> Truth:
    r"""Return the boxed answer of a solution or its answer after `####`; if it has neither, the whole solution."""
    truth = parse_stated_truth(solution)
    if truth is not None:
        return truth
    text = normalize_answer(solution)
    value = parse_normalized_number(text)
    return text if value is None else value
