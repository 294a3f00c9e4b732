"""Test problems that were brought along, in place of held-back ones.

Runs that were taught different rows can only be compared on the same questions, and a contest or a company has its own.
They are asked as they stand, whether their kind is taught or not, and are kept out of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keeptune.config.data import DataSection
from keeptune.data.contamination import Problem
from keeptune.data.decontamination import stated, too_many, understood
from keeptune.data.row import NOT_UNDERSTOOD, Rejected, reject
from keeptune.data.selection import digest
from keeptune.data.solution_rendering import CountTokens, Example
from keeptune.data.sources import SourceFile, sources
from keeptune.skills.base import Question, Skill


@dataclass(frozen=True, slots=True)
class Brought:
    """The files, their problems with the solutions that stand there, the same problems as they are compared with
    others, and how many rows cannot be asked."""

    files: list[SourceFile] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rejected: int = 0

    @property
    def twins(self) -> dict[str, str]:
        """The text that each example shares with its twins, by the example's id."""
        return {example.id: problem.twin for example, problem in zip(self.examples, self.problems, strict=True)}


def brought(section: DataSection, skill: Skill, count_tokens: CountTokens) -> Brought:
    """The problems of data.test_files, each once, in the order of the files.

    errors: DataError for files that cannot be read or hold no problem, and where more rows cannot be asked than
    data.reject_limit allows.
    """
    found = sources(section.test_files)
    questions: dict[str, tuple[Question, str, str, int]] = {}
    rejected, read = [], 0
    for row, question in understood(found, section.columns, skill):
        read += 1
        if isinstance(row, Rejected):
            rejected.append(row)
        elif question is None:
            rejected.append(reject(row.file, row.line, NOT_UNDERSTOOD, row.problem))
        else:
            questions.setdefault(question.text, (question, row.solution, row.file, row.line))
    if len(rejected) > section.reject_limit * read:
        raise too_many(rejected, read, "in data.test_files cannot be asked", section.reject_limit)
    counts = count_tokens([(text, solution) for text, (_, solution, _, _) in questions.items()])
    examples = [
        Example(digest(text).hex(), question.kind, text, solution, str(question.truth), file, line, *tokens)
        for (text, (question, solution, file, line)), tokens in zip(questions.items(), counts, strict=True)
    ]
    problems = [stated(question, skill) for question, *_ in questions.values()]
    return Brought(found.files, examples, problems, len(rejected))
