"""The prompts for the teacher model. A change here changes the hash of every request and so invalidates the cache."""

from __future__ import annotations

from typing import Literal

from keeptune.config.solution_format import Rounding
from keeptune.grading.answers import ANSWER_MARKER

Task = Literal["reasoning", "paraphrase", "formula"]

_PROMPTS: dict[Task, str] = {
    "reasoning": f"""Solve the problem step by step, in the language of the problem.
Write every calculation as an equation of plain numbers, one a line, with + - * / ^ and brackets. Use no units within \
equations, no LaTeX and no Markdown. Write ≈ where a result is rounded, to four decimals or more.
End with one line: {ANSWER_MARKER} and the final answer alone, {{form}}.

Problem: {{problem}}""",
    "paraphrase": """Say the problem in other words, in the same language. It must ask for exactly the same thing.
Keep every number and formula exactly as it is written, in the same order, with the same units. Add no number, leave \
none out, and do not solve it. Write only the new problem text.

Problem: {problem}""",
    "formula": """Which calculation gives the answer to the problem?
Write it as one expression of the problem's numbers with + - * / ^ sqrt() and brackets. \
Put negative numbers in brackets. Do not calculate it. Write only the expression.

Problem: {problem}""",
}


def render_prompt(task: Task, problem: str, answer_format: str = "") -> str:
    """Return the prompt for a task. `answer_format` describes the final answer in the prompt for reasoning."""
    # Not str.format, because problems in LaTeX contain braces.
    return _PROMPTS[task].replace("{form}", answer_format).replace("{problem}", problem)


def describe_rounding(rounding: Rounding) -> str:
    """Return the rounding of a final answer in words."""
    if rounding.digits is not None:
        return f"rounded to {rounding.digits} significant digits"
    return f"rounded to at most {rounding.places} decimals"
