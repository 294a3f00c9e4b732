"""Checks rows against the chat prompt that will render them, before they are counted and selected."""

from __future__ import annotations

from keeptune.data.row import RawRow, RejectedRow, reject
from keeptune.errors import PromptError
from keeptune.prompts.token_count import ChatRows


def check_rendering(row: RawRow, chat: ChatRows | None) -> RawRow | RejectedRow:
    """Return the row with the answer that a perfect model writes, or its rejection if it cannot be rendered exactly.

    Only the answer of a row whose last turn calls tools changes: it becomes the template's text of the calls. Without a
    chat prompt, the row is returned unchanged.
    """
    if chat is None:
        return row
    try:
        answer = chat.expected_answer(row.problem, row.solution, row.conversation)
    except PromptError as error:
        return reject(row.file, row.line, str(error), f"{row.problem}\n{row.solution}")
    return row if answer == row.solution else row._replace(solution=answer)
