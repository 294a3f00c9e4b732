"""A package outside of keeptune with a skill (`data.skill: units`) and a grader (`data.grader: starts-with`)."""

import random
import re
from fractions import Fraction
from typing import ClassVar

from pydantic import Field

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Style
from keeptune.grading.base import Grade, Grader
from keeptune.grading.number import grade
from keeptune.skills.base import Question


class UnitConversion:
    """Lengths in kilometers, converted to meters."""

    name = "units"
    kinds = ("km-to-m",)
    free_text_kinds: frozenset[str] = frozenset()
    grader: Grader | None = None  # answers are exact numbers

    _PROBLEM = re.compile(r"Convert ([1-9][0-9]{0,5}) km to m\.")

    def parse(self, problem: str, solution: str, label: str | None = None) -> Question | None:
        match = self._PROBLEM.fullmatch(problem)
        return Question("km-to-m", problem, Fraction(1000 * int(match[1]))) if match else None

    def explain_rejection(self, problem: str, solution: str, label: str | None = None) -> str:
        return "no length to convert: write the problem as 'Convert 5 km to m.'"

    def find_error(self, question: Question, solution: str) -> str | None:
        return None if grade(solution, question.truth).correct else "wrong answer: it is not the exact value"

    def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
        meters = int(question.truth)
        return f"{meters // 1000} * 1000 = {meters}\n#### {meters}"

    def verify_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str | None:
        return self.find_error(question, solution)

    def canonical_form(self, question: Question) -> str:
        return question.text

    def generate(self, kind: str, generator: random.Random) -> tuple[str, str]:
        kilometers = generator.randint(1, 999_999)
        return f"Convert {kilometers} km to m.", f"{1000 * kilometers}"


def create_units(section: DataSection) -> UnitConversion:
    """Called with the section `data` of the recipe."""
    return UnitConversion()


class StartsWith(Grader):
    """Whether the answer begins with the truth."""

    name: ClassVar[str] = "starts-with"

    ignore_case: bool = Field(False, description="ignore case")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        left, right = (answer.casefold(), truth.casefold()) if self.ignore_case else (answer, truth)
        return Grade(float(left.startswith(right)), answer)
