"""Loads test problems from separate files (data.test_files), which replace held-out problems.

Runs with different training rows can only be compared on the same questions, and a contest or a company often has its
own test set. All problems of the files are scored, whether their kind is trained or not, and are removed from training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keeptune.config.data import DataSection
from keeptune.data.columns import RowLayout
from keeptune.data.contamination import Problem
from keeptune.data.decontamination import read_questions, reject_limit_error, to_problem
from keeptune.data.row import RawRow, RejectedRow, reject
from keeptune.data.scan import CONFLICT
from keeptune.data.selection import digest
from keeptune.data.solution_rendering import CountTokens, PreparedRow
from keeptune.data.sources import SourceFile, resolve_sources
from keeptune.data.special_tokens import SpecialTokenFilter
from keeptune.prompts.token_count import ChatRows, example_texts
from keeptune.skills.base import Question, Skill


@dataclass(frozen=True, slots=True)
class ExternalTestSet:
    """The test files, their problems with the stored solutions, and the number of rejected rows.

    `problems` are the same problems as `rows`, in the form in which problems are compared.
    """

    files: list[SourceFile] = field(default_factory=list)
    rows: list[PreparedRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rejected: int = 0

    @property
    def canonical_forms(self) -> dict[str, str]:
        """The canonical form of each problem, by the id of its row."""
        return {row.id: problem.canonical_form for row, problem in zip(self.rows, self.problems, strict=True)}


def load_external_test_set(
    section: DataSection,
    skill: Skill,
    count_tokens: CountTokens,
    special_tokens: Sequence[str] = (),
    chat: ChatRows | None = None,
) -> ExternalTestSet:
    """Load the problems of data.test_files, each once, in file order. `chat` checks rows under a chat prompt.

    Rows with special tokens, and rows of a problem with different answers, are handled as those of data.files. A
    problem has one answer here, so `data.conflicts: all` uses the first.

    Raises:
        DataError: a file cannot be read or contains no known problem, or the share of rejected rows is above
            data.reject_limit.
    """
    sources = resolve_sources(section.test_files)
    questions: dict[str, tuple[Question, RawRow]] = {}
    rejected, rows_read = [], 0
    token_filter = SpecialTokenFilter(special_tokens, section.special_tokens)
    ambiguous: set[str] = set()
    layout = RowLayout.from_section(section, chat is not None)
    for row, question in read_questions(sources, layout, skill, token_filter, chat):
        rows_read += 1
        if isinstance(row, RejectedRow):
            rejected.append(row)
        elif isinstance(question, str):
            rejected.append(reject(row.file, row.line, question, row.problem))
        else:
            first, _ = questions.setdefault(question.text, (question, row))
            if section.conflicts == "reject" and first.truth != question.truth:
                rejected.append(reject(row.file, row.line, f"{CONFLICT}: set data.conflicts: first", row.problem))
                ambiguous.add(question.text)
    for text in ambiguous:
        _, row = questions.pop(text)
        rejected.append(reject(row.file, row.line, f"{CONFLICT}: set data.conflicts: first", text))
    if len(rejected) > section.reject_limit * rows_read:
        raise reject_limit_error(rejected, rows_read, "in data.test_files cannot be scored", section.reject_limit)
    token_counts = count_tokens(
        [example_texts(text, row.solution, row.conversation) for text, (_, row) in questions.items()]
    )
    rows = [
        PreparedRow(
            digest(text).hex(),
            question.kind,
            text,
            row.solution,
            str(question.truth),
            row.file,
            row.line,
            *tokens,
            row.conversation,
        )
        for (text, (question, row)), tokens in zip(questions.items(), token_counts, strict=True)
    ]
    problems = [to_problem(question, skill) for question, _ in questions.values()]
    return ExternalTestSet(sources.files, rows, problems, len(rejected))
