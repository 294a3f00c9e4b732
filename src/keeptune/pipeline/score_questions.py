"""Reads the questions of a file for `keeptune score`."""

from __future__ import annotations

from pathlib import Path

from keeptune.config.data import ALL_COLUMNS, ColumnsSection
from keeptune.data.chat_rows import check_rendering
from keeptune.data.columns import RowLayout
from keeptune.data.reader import RejectedRow, read_shard, reject
from keeptune.data.row import find_question
from keeptune.data.selection import digest
from keeptune.data.sources import Shard
from keeptune.errors import DataError
from keeptune.evaluation import skill_score
from keeptune.prompts.token_count import ChatRows
from keeptune.skills.base import Skill


def read_questions(
    path: Path, skill: Skill, columns: ColumnsSection, limit: int, chat: ChatRows | None
) -> tuple[list[skill_score.SkillQuestion], list[RejectedRow]]:
    """The questions of a file in its order, and the rows that cannot be used. `chat` checks rows of a chat prompt.

    Raises:
        DataError: no row can be used.
    """
    questions, rejected = [], []
    # Named columns are the only ones that are wanted; a known format must not lose a column.
    ignored = () if columns == ColumnsSection() else (ALL_COLUMNS,)
    layout = RowLayout(columns, ignored, conversations=chat is not None)
    for raw in read_shard(Shard(str(path)), layout):
        row = raw if isinstance(raw, RejectedRow) else check_rendering(raw, chat)
        if isinstance(row, RejectedRow):
            rejected.append(row)
            continue
        question = find_question(skill, row)
        if isinstance(question, str):
            rejected.append(reject(row.file, row.line, question, row.problem))
        else:
            name = f"{row.line}:{digest(question.text).hex()}"
            questions.append(
                skill_score.SkillQuestion(name, question.kind, question.text, question.truth, row.conversation)
            )
        if limit and len(questions) == limit:
            break
    if not questions:
        first = {row.reason.partition(":")[0]: row for row in reversed(rejected)}
        reasons = "".join(f"\n  {row.file}:{row.line}: {row.reason}" for row in first.values())
        raise DataError(f"{path}: no row can be scored; the first row for each reason:{reasons}")
    return questions, rejected
