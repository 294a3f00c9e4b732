"""Rows of any sort: problems that no rule can solve, with solutions that say what the answer is.

People bring their own data: word problems, questions about a product, tables of examples. Nothing here is computed
from the problem, so the truth is what the stored solution states; but its equations are still checked, and its
answer must be one that the grader can read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Style
from keeptune.errors import RecipeError
from keeptune.grading.answers import Truth
from keeptune.grading.number import grade
from keeptune.grading.stated_answer import answer_line, boxed_truth, normalise, number, worked
from keeptune.skills.arithmetic.steps import false_step
from keeptune.skills.base import Question

OTHER = "(not in data.kinds)"
"""The kind of a row whose column names one that the recipe does not list; no column would name this one."""

ONLY = "text"
"""The one kind of all rows where the recipe names neither patterns nor a column."""


class Text:
    """Recognises problems by regular expressions or by a column, and keeps their solutions as they are.

    `patterns` are matched against the whole problem, in their order. `labels` are the kinds that the column may name.
    """

    name = "text"

    def __init__(self, patterns: Mapping[str, str], labels: tuple[str, ...] = ()) -> None:
        self.patterns = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in patterns.items()}
        self.labels = labels
        self.kinds = (*patterns,) or ((*labels, OTHER) if labels else (ONLY,))

    @property
    def free_text(self) -> frozenset[str]:
        """All kinds: nothing is known of them."""
        return frozenset(self.kinds)

    @classmethod
    def of(cls, section: DataSection) -> Text:
        """The skill that a recipe describes."""
        return cls(section.patterns, section.kinds if section.columns.kind else ())

    def read(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """The question; None where no pattern matches the problem, or where no grader could read the answer."""
        kind = self._kind(problem, label)
        if kind is None:
            return None
        truth = stated_truth(solution)
        return Question(kind, problem, truth) if grade(answer_line(solution), truth).correct else None

    def fault(self, question: Question, solution: str) -> str | None:  # noqa: ARG002
        """Why a stored solution is wrong, or None: an equation in it that does not hold."""
        step = false_step(solution)
        return None if step is None else f"wrong step: {step}"

    def solve(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:  # noqa: ARG002
        """The stored solution, alone (raw) or with its answer on a last line; or that line alone (answer)."""
        return worked(solution, style)

    def check(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:  # noqa: ARG002
        """Why a written solution is wrong, or None."""
        if style != "raw" and not grade(solution, question.truth).correct:
            return "its final answer is not what the stored solution states"
        return self.fault(question, solution)

    def twin(self, question: Question) -> str:
        """The problem itself: nothing is known of which texts give each other away."""
        return question.text

    def invent(self, kind: str, generator: random.Random) -> tuple[str, str]:  # noqa: ARG002
        """errors: RecipeError, for nobody can invent rows of an unknown sort."""
        raise RecipeError("data.synth invents arithmetic rows only; give data.files with data.skill: text")

    def _kind(self, problem: str, label: str | None) -> str | None:
        if self.labels:
            return label if label in self.labels else OTHER
        if not self.patterns:
            return ONLY
        return next((kind for kind, pattern in self.patterns.items() if pattern.fullmatch(problem)), None)


def stated_truth(solution: str) -> Truth:
    r"""The answer that a solution boxes, or has after `####`; where it does neither, all of it is the answer."""
    truth = boxed_truth(solution)
    if truth is not None:
        return truth
    text = normalise(solution)
    value = number(text)
    return text if value is None else value
