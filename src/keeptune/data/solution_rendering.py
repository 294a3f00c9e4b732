"""Renders the selected rows as prepared rows: each solution in its kind's style, checked before it is used.

Wrong worked solutions usually come from the code that wrote them, not from the data set. One contest team's reasoning
was wrong in 13 % of its sales rows. So every solution is checked by code that did not write it, and by the headline
grader. If the recipe's rounding is coarser than that grader, the answer is checked against the declared rounding
instead, and such rows are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Spelling
from keeptune.data.conversations import ends_with_tool_calls
from keeptune.data.selection import Candidate, CandidateBatch, digest
from keeptune.data.workers import Executor, SerialExecutor, garbage_collection_paused
from keeptune.errors import DataError
from keeptune.grading.number import grade, parse_truth
from keeptune.prompts.token_count import ExampleTexts, example_texts
from keeptune.skills.base import Skill
from keeptune.skills.number_spelling import spell, unspell

CountTokens = Callable[[Sequence[ExampleTexts]], list[tuple[int, int]]]
"""Counts tokens for (problem, solution) pairs: the prompt with the problem, and the solution."""

TASKS_PER_WORKER = 2
"""More tasks would balance the load better, but the tokenizer is sent with each task."""

MAX_LISTED_ROWS = 5
"""The number of rows that an error message lists."""


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row of train, dev or test: a problem, its solution, its exact answer, its origin and its length in tokens."""

    id: str
    """The digest of the problem."""
    kind: str
    problem: str
    solution: str
    truth: str
    """The exact answer: `p/q`, an integer, or a normalized text."""
    file: str
    line: int
    prompt_tokens: int
    solution_tokens: int
    conversation: str | None = None
    """All turns and tools as JSON, if the row is more than a question and its answer."""

    @property
    def name(self) -> str:
        """The origin FILE:LINE, as messages and the log show it."""
        return f"{self.file}:{self.line}"

    @property
    def tokens(self) -> int:
        """The number of tokens of prompt and solution together."""
        return self.prompt_tokens + self.solution_tokens


def render_solutions(
    candidates: Sequence[Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
    executor: Executor | None = None,
) -> list[PreparedRow]:
    """Return one prepared row per candidate, in the same order.

    Raises:
        DataError: a rendered solution is wrong, or has no tokens. The message names the row.
    """
    executor = executor or SerialExecutor()
    task_count = TASKS_PER_WORKER * executor.worker_count if executor.worker_count > 1 else 1
    size = max(1, -(-len(candidates) // task_count))
    batches = [CandidateBatch(candidates[start : start + size]) for start in range(0, len(candidates), size)]
    tasks = [_RenderTask(batch, skill, section, count_tokens) for batch in batches]
    solutions, token_counts = [], []
    for batch_solutions, batch_counts in executor.map(_render, tasks):
        solutions += batch_solutions
        token_counts += batch_counts
    rows = [
        PreparedRow(
            id=digest(candidate.question.text).hex(),
            kind=candidate.question.kind,
            problem=candidate.question.text,
            solution=solution,
            truth=str(candidate.question.truth),
            file=candidate.file,
            line=candidate.line,
            prompt_tokens=prompt_tokens,
            solution_tokens=solution_tokens,
            conversation=candidate.conversation,
        )
        for candidate, solution, (prompt_tokens, solution_tokens) in zip(
            candidates, solutions, token_counts, strict=True
        )
    ]
    for row in rows:
        if row.solution_tokens == 0:
            raise DataError(f"{row.name}: the solution {row.solution!r} has no token; remove the row")
    return rows


def enforce_max_tokens(rows: Sequence[PreparedRow], section: DataSection) -> list[PreparedRow]:
    """Return the rows of at most data.max_tokens tokens.

    Raises:
        DataError: rows are too long and data.too_long is `error`. The message lists them.
    """
    long_rows = [row for row in rows if row.tokens > section.max_tokens]
    if long_rows and section.too_long == "error":
        listed = "".join(f"\n  {row.name} ({row.kind}): {row.tokens} tokens" for row in long_rows[:MAX_LISTED_ROWS])
        more = f"\n  and {len(long_rows) - MAX_LISTED_ROWS} more" if len(long_rows) > MAX_LISTED_ROWS else ""
        raise DataError(
            f"{len(long_rows)} of {len(rows)} rows are longer than data.max_tokens = {section.max_tokens}:"
            f"{listed}{more}\nRaise data.max_tokens to {max(row.tokens for row in long_rows)}, choose a shorter style, "
            "or set data.too_long to drop."
        )
    return [row for row in rows if row.tokens <= section.max_tokens]


def count_coarse_answers(rows: Sequence[PreparedRow], rounding: Rounding) -> int:
    """Count the rows whose answer the headline grader rejects because the recipe rounds it too coarsely.

    The data card reports the count, because the skill score of such a kind cannot reach 100 %.
    """
    if rounding.digits is None and rounding.places >= Rounding().places:
        return 0
    return sum(not grade(row.solution, parse_truth(row.truth)).correct for row in rows)


def repeat_rows(rows: list[PreparedRow], targets: Mapping[str, int], limit: int) -> list[PreparedRow]:
    """Return the training rows, with the rows of the kinds in `targets` repeated up to that number per kind.

    Each row occurs at most `limit` times. So a rare kind is practiced as often as the others without being memorized.
    """
    repeated = list(rows)
    for kind, target in targets.items():
        rows_of_kind = [row for row in rows if row.kind == kind]
        copies = min(target, len(rows_of_kind) * limit) - len(rows_of_kind)
        repeated += [rows_of_kind[number % len(rows_of_kind)] for number in range(copies)]
    return repeated


@dataclass(frozen=True, slots=True)
class _RenderTask:
    """The candidates for one worker, with everything that is needed to render and measure their solutions."""

    candidates: CandidateBatch
    skill: Skill
    section: DataSection
    count_tokens: CountTokens


def _render(task: _RenderTask) -> tuple[list[str], list[tuple[int, int]]]:
    with garbage_collection_paused():
        solutions = [_render_solution(candidate, task.skill, task.section) for candidate in task.candidates]
        texts = [
            example_texts(candidate.question.text, solution, candidate.conversation)
            for candidate, solution in zip(task.candidates, solutions, strict=True)
        ]
        return solutions, task.count_tokens(texts)


def _render_solution(candidate: Candidate, skill: Skill, section: DataSection) -> str:
    """Return the checked solution to train on."""
    question = candidate.question
    style, rounding = section.style(question.kind), section.rounding.for_kind(question.kind)
    if ends_with_tool_calls(candidate.conversation):
        style = "raw"  # the template writes the calls
    is_stored_text = style == "raw" or question.kind in skill.free_text_kinds
    spelling: Spelling = "plain" if is_stored_text else section.spelling
    solution = spell(skill.render_solution(question, candidate.solution, style, rounding), spelling)
    # The check reads the final text back, so that it also covers the spelling.
    fault = skill.verify_solution(question, unspell(solution, spelling), style, rounding)
    if fault is None:
        return solution
    raise DataError(
        f"{candidate.file}:{candidate.line}: the {style} solution written for {question.text!r} is wrong "
        f"({fault}):\n{solution}\n"
        f"This is a bug in keeptune: please report it, and add {question.kind} to data.exclude in the meantime."
    )
