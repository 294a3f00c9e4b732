"""What the writing model is asked, word for word. A change here changes the hash of every request."""

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


def wording(task: Task, problem: str, form: str = "") -> str:
    """The prompt. `form` says, for reasoning, how the final answer is to be written."""
    # Not str.format: a problem in LaTeX is full of braces.
    return _PROMPTS[task].replace("{form}", form).replace("{problem}", problem)


def form(rounding: Rounding) -> str:
    """How a final answer is to be written so that it is rounded as the recipe says."""
    if rounding.digits is not None:
        return f"rounded to {rounding.digits} significant digits"
    return f"rounded to at most {rounding.places} decimals"
