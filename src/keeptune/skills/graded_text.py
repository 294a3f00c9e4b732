"""Skills for rows whose answers a declared grader compares: free text, labels, extraction of JSON, and text to SQL."""

from __future__ import annotations

from collections.abc import Mapping

from keeptune.config.data import DataSection
from keeptune.config.skill_names import GRADER_OF_SKILL
from keeptune.config.solution_format import Rounding, Style
from keeptune.errors import RecipeError
from keeptune.grading.base import Grader, GraderError
from keeptune.grading.graders.categorical import Label
from keeptune.grading.registry import create_grader
from keeptune.skills.arithmetic.steps import find_false_step
from keeptune.skills.base import Question, UnusableRowError
from keeptune.skills.text import Text


class GradedText(Text):
    """Free text with a grader. A row is used only if the grader accepts its own solution.

    Solutions are trained on as they are, because they state their answer where the grader finds it.
    """

    name = "text"
    checks_equations = True
    """Whether the equations of solutions must hold."""

    def __init__(self, grader: Grader, patterns: Mapping[str, str], labels: tuple[str, ...] = ()) -> None:
        super().__init__(patterns, labels)
        self.grader: Grader = grader

    @classmethod
    def from_section(cls, section: DataSection) -> GradedText:
        """Return the skill that the data section of a recipe describes."""
        grader = section.grader or cls.default_grader()
        return cls(grader, section.patterns, section.kinds if section.columns.kind else ())

    @classmethod
    def default_grader(cls) -> Grader:
        """Return the grader that the skill requires, with its default options, for recipes that name none.

        Raises:
            RecipeError: the skill requires no grader, or one that needs options.
        """
        try:
            return create_grader(GRADER_OF_SKILL.get(cls.name, ""))
        except GraderError:
            raise RecipeError(f"data.skill: {cls.name} needs data.grader") from None

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """Return the question, or None if no pattern matches the problem."""
        kind = self.find_kind(problem, label)
        if kind is None:
            return None
        try:
            truth = self.grader.read_truth(solution, problem)
        except GraderError as error:
            raise UnusableRowError(str(error)) from None
        if not self.grader.grade(solution, truth, problem).is_right:
            raise UnusableRowError(f"the grader {self.grader.name} rejects the solution of the row: {truth[:80]!r}")
        return Question(kind, problem, truth)

    def find_error(self, question: Question, solution: str) -> str | None:  # noqa: ARG002
        """Return the first equation of a stored solution that does not hold, or None."""
        step = find_false_step(solution) if self.checks_equations else None
        return None if step is None else f"wrong step: {step}"

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:  # noqa: ARG002
        """Return the stored solution, or only its answer (style "answer")."""
        return self.grader.location.write(str(question.truth)) if style == "answer" else solution

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:  # noqa: ARG002
        """Return why a rendered solution is wrong, or None."""
        if not self.grader.grade(solution, str(question.truth), question.text).is_right:
            return "the final answer differs from the stored solution"
        return self.find_error(question, solution)


class Labels(GradedText):
    """Classification with a closed set of labels. Each label is a kind, so quotas and scores are per label."""

    name = "labels"
    checks_equations = False

    def __init__(self, grader: Grader, patterns: Mapping[str, str], labels: tuple[str, ...] = ()) -> None:
        super().__init__(grader, patterns, labels)
        if not isinstance(grader, Label):
            raise RecipeError("data.skill: labels needs data.grader: {name: label, labels: [...]}")
        self.label_grader = grader
        self.kinds = grader.labels

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        """Return the question, whose kind is its label."""
        question = super().parse(problem, solution, label)
        matched_label = question and self.label_grader.find_label(str(question.truth))
        return None if question is None or matched_label is None else question._replace(kind=matched_label)


class Extraction(GradedText):
    """Extraction of facts from a text as JSON, scored by field."""

    name = "extraction"
    checks_equations = False


class TextToSql(GradedText):
    """Questions on the tables that the problem states, answered by a query."""

    name = "sql"
    checks_equations = False
