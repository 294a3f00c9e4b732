"""The reason why no grader can read the answer of a row."""

from __future__ import annotations

from keeptune.grading.answers import ANSWER_MARKER
from keeptune.grading.number import MAXIMUM_CHARACTERS
from keeptune.grading.stated_answer import format_answer_line

_SHOWN_CHARACTERS = 60


def describe_unreadable_answer(solution: str) -> str:
    """Return why the answer of a solution cannot be graded, and what to do. It names the limit for a long answer."""
    answer = format_answer_line(solution).removeprefix(ANSWER_MARKER).strip()
    advice = f"end the solution with a line '{ANSWER_MARKER} ANSWER' that holds a number or a short text"
    if len(answer) > MAXIMUM_CHARACTERS:
        return f"answer longer than {MAXIMUM_CHARACTERS} characters: found {len(answer):,}; {advice}"
    return f"answer cannot be graded: found {answer[:_SHOWN_CHARACTERS]!r}; {advice}"
