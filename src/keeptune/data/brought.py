"""Test problems that were brought along, in place of held-back ones.

Runs that were taught different rows can only be compared on the same questions, and a contest or a company has its own.
They are asked as they stand, whether their kind is taught or not, and are kept out of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keeptune.data.read import read_shard
from keeptune.data.rewrite import NAMED_ROWS, CountTokens, Example
from keeptune.data.row import Rejected, reject
from keeptune.data.select import digest
from keeptune.data.source import SourceFile, sources
from keeptune.errors import DataError
from keeptune.sections import DataSection
from keeptune.skill.base import Question, Skill


@dataclass(frozen=True, slots=True)
class Brought:
    """The files, their problems with the solutions that stand there, the text that each id shares with its twins, and
    how many rows cannot be asked."""

    files: list[SourceFile] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    twins: dict[str, str] = field(default_factory=dict)
    rejected: int = 0


def brought(section: DataSection, skill: Skill, count_tokens: CountTokens) -> Brought:
    """The problems of data.test_files, each once, in the order of the files.

    errors: DataError for files that cannot be read, and where more rows cannot be asked than data.reject_limit allows.
    """
    found = sources(section.test_files)
    questions: dict[str, tuple[Question, str, str, int]] = {}
    rejected, read = [], 0
    for shard in found.shards:
        for row in read_shard(shard, section.columns):
            read += 1
            if isinstance(row, Rejected):
                rejected.append(row)
                continue
            question = skill.read(row.problem, row.solution, row.label)
            if question is None:
                rejected.append(reject(row.file, row.line, "no known kind of problem", row.problem))
            else:
                questions.setdefault(question.text, (question, row.solution, row.file, row.line))
    if len(rejected) > section.reject_limit * read or (section.test_files and not questions):
        raise _not_asked(rejected, read, section.reject_limit)
    counts = count_tokens([(text, solution) for text, (_, solution, _, _) in questions.items()])
    examples = [
        Example(digest(text).hex(), question.kind, text, solution, str(question.truth), file, line, *tokens)
        for (text, (question, solution, file, line)), tokens in zip(questions.items(), counts, strict=True)
    ]
    twins = {digest(text).hex(): skill.twin(question) for text, (question, *_) in questions.items()}
    return Brought(found.files, examples, twins, len(rejected))


def _not_asked(rejected: list[Rejected], read: int, limit: float) -> DataError:
    named = "".join(f"\n  {row.file}:{row.line}: {row.reason}" for row in rejected[:NAMED_ROWS])
    more = f"\n  and {len(rejected) - NAMED_ROWS} more" if len(rejected) > NAMED_ROWS else ""
    return DataError(
        f"{len(rejected)} of {read} rows in data.test_files cannot be asked, more than data.reject_limit = {limit:g} "
        f"allows:{named}{more}\nRepair the files, take the rows out, or raise data.reject_limit."
    )
