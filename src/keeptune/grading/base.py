"""Interface of graders: a score from 0 to 1 for an output, given the true answer.

A grader is a frozen pydantic model, and its fields are its options. So a recipe, a question file and the command line
all describe a grader by its name and its options, and a stored run contains the complete description.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keeptune.grading.answer_location import AnswerLocation, parse_location

Details = Mapping[str, Any]
"""What a grader reports about one answer besides the score, as JSON values."""

RIGHT = 1 - 1e-9
"""The score from which an answer counts as right."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one output: its score, the answer that was found in it (None if there is none), and details."""

    score: float
    answer: str | None
    details: Details = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether the answer gets the full score."""
        return self.score >= RIGHT


class GraderError(ValueError):
    """An unknown grader or option, an invalid value, or a true answer that the grader cannot compare."""


def _check_location(location: str) -> str:
    parse_location(location)
    return location


LocationName = Annotated[str, AfterValidator(_check_location)]
"""The description of an `AnswerLocation`, such as "after '####'"."""


class Grader(BaseModel, ABC):
    """Base class of graders.

    The same code finds the answer in a stored solution and in an output. `grade` is deterministic and never raises for
    an output, because outputs are arbitrary text. Subclasses set `name` and implement `compare`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    is_binary: ClassVar[bool] = True
    """Whether all scores are 0 or 1. The gain is then tested with McNemar's test, otherwise with a paired bootstrap."""

    answer: LocationName = Field(
        "whole",
        description="where a text states its answer: `whole`, `last line`, `after 'MARKER'`, `boxed`, `json`, "
        "`regex PATTERN` or `last number`",
    )

    @property
    def location(self) -> AnswerLocation:
        """Where the answer of a text is found."""
        return parse_location(self.answer)

    def read_truth(self, solution: str, problem: str = "") -> str:
        """Return the true answer that a stored solution states, as text.

        Raises:
            GraderError: the solution states no answer, or `check_truth` rejects it.
        """
        truth = self.location.find(solution)
        if truth is None:
            raise GraderError(f"no answer: the solution does not end with its answer ({self.location})")
        self.check_truth(truth, problem)
        return truth

    def check_truth(self, truth: str, problem: str = "") -> None:
        """Check that a true answer can be compared.

        Raises:
            GraderError: it cannot. The text before the colon is the same for all answers with the same fault.
        """

    def grade(self, output: str, truth: str, problem: str = "") -> Grade:
        """Return the grade of an output. An output without an answer has the score 0.

        Args:
            output: What the model wrote, without the prompt.
            truth: The true answer, from `read_truth` or from a question file.
            problem: The text of the problem. Few graders need it.
        """
        answer = self.location.find(output)
        return Grade(0.0, None) if answer is None else self.compare(answer, truth, problem)

    def prepare(self, outputs: Sequence[str], truths: Sequence[str], problems: Sequence[str]) -> None:
        """Do the slow part of grading for many outputs at once, such as requests to a server. May do nothing."""

    @abstractmethod
    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        """Return the grade of an answer that was found in an output."""

    def aggregate(self, truths: Sequence[str], grades: Sequence[Grade]) -> Details:  # noqa: ARG002
        """Return figures over all answers besides the mean score, such as a confusion matrix."""
        return {}

    def check_available(self) -> None:
        """Check that the grader can work here, before rows are read.

        Raises:
            RecipeError: a library is missing, or code of the user may not run.
        """

    def with_absolute_paths(self, resolve: Callable[[str], str]) -> Grader:  # noqa: ARG002
        """Return the grader with the file names of its options resolved, so that a run resumes from any directory."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return the name and all options as JSON values. `registry.create_grader` accepts them."""
        return {"name": self.name, **self.model_dump(mode="json")}


def suggest(name: str, known: Sequence[str]) -> str:
    """Return advice for an unknown name: the closest known name, or all of them."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(known)}"
