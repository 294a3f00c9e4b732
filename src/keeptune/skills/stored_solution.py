"""Rendering of stored solutions of free-text rows."""

from __future__ import annotations

from keeptune.config.solution_format import Style
from keeptune.grading.stated_answer import format_answer_line


def add_answer_line(solution: str, style: Style) -> str:
    """Return a stored solution in a style.

    "raw" is the solution itself, and "answer" is only its answer line. All other styles append the answer line unless
    the solution already ends with it.
    """
    if style == "raw":
        return solution
    last_line = format_answer_line(solution)
    if style == "answer":
        return last_line
    stored = solution.rstrip()
    return stored if stored.endswith(last_line) else f"{stored}\n{last_line}"
