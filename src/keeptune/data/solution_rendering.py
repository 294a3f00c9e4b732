"""Chosen rows become examples: each solution written in its kind's style, and proven right before it is taught.

Wrong worked solutions come from the code that wrote them, not from the data set: one team's own reasoning was wrong
in 13 % of its sales rows. So every solution is judged here by code that did not write it, and by the headline grader.
A rounding that is coarser than that grader is judged as declared instead, and such examples are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Spelling
from keeptune.data.selection import Candidate, Candidates, digest
from keeptune.data.workers import Here, Workers, without_collector
from keeptune.errors import DataError
from keeptune.grading.number import grade, parse_truth
from keeptune.skills.base import Skill
from keeptune.skills.number_spelling import spell, unspell

CountTokens = Callable[[Sequence[tuple[str, str]]], list[tuple[int, int]]]
"""Tokens of the prompt around each problem, and of each solution; of (problem, solution) pairs."""

TASKS_A_WORKER = 2
"""More would even out the load, but each has to be sent the tokenizer."""

NAMED_ROWS = 5
"""So many rows are named in an error."""


@dataclass(frozen=True, slots=True)
class Example:
    """A problem with the solution to train on, its exact answer as text, where it stood, and its length in tokens.

    `id` is the hash of the problem; `truth` is `p/q`, an integer, or a normalised text.
    """

    id: str
    kind: str
    problem: str
    solution: str
    truth: str
    file: str
    line: int
    prompt_tokens: int
    solution_tokens: int

    @property
    def name(self) -> str:
        """Where it stood, as messages and the log name it."""
        return f"{self.file}:{self.line}"

    @property
    def tokens(self) -> int:
        """The length of the whole example."""
        return self.prompt_tokens + self.solution_tokens


def rewrite(
    rows: Sequence[Candidate],
    skill: Skill,
    section: DataSection,
    count_tokens: CountTokens,
    staff: Workers | None = None,
) -> list[Example]:
    """One example a row, in their order.

    errors: DataError naming the row when a written solution is wrong, or has no token to learn from.
    """
    staff = staff or Here()
    tasks_wanted = TASKS_A_WORKER * staff.count if staff.count > 1 else 1
    size = max(1, -(-len(rows) // tasks_wanted))
    parts = [Candidates(rows[start : start + size]) for start in range(0, len(rows), size)]
    tasks = [_Task(part, skill, section, count_tokens) for part in parts]
    solutions, counts = [], []
    for written, counted in staff.map(_write, tasks):
        solutions += written
        counts += counted
    examples = [
        Example(
            id=digest(row.question.text).hex(),
            kind=row.question.kind,
            problem=row.question.text,
            solution=solution,
            truth=str(row.question.truth),
            file=row.file,
            line=row.line,
            prompt_tokens=prompt_tokens,
            solution_tokens=solution_tokens,
        )
        for row, solution, (prompt_tokens, solution_tokens) in zip(rows, solutions, counts, strict=True)
    ]
    for example in examples:
        if example.solution_tokens == 0:
            raise DataError(f"{example.name}: the solution {example.solution!r} has no token; remove the row")
    return examples


def fit(examples: Sequence[Example], section: DataSection) -> list[Example]:
    """The examples that are not too long.

    errors: DataError naming the ones that are, unless the recipe drops them.
    """
    long = [example for example in examples if example.tokens > section.max_tokens]
    if long and section.too_long == "error":
        named = "".join(f"\n  {row.name} ({row.kind}): {row.tokens} tokens" for row in long[:NAMED_ROWS])
        more = f"\n  and {len(long) - NAMED_ROWS} more" if len(long) > NAMED_ROWS else ""
        raise DataError(
            f"{len(long)} of {len(examples)} examples are longer than data.max_tokens = {section.max_tokens}:"
            f"{named}{more}\nRaise data.max_tokens to {max(row.tokens for row in long)}, choose a shorter style, "
            "or set data.too_long to drop."
        )
    return [example for example in examples if example.tokens <= section.max_tokens]


def too_coarse(examples: Sequence[Example], rounding: Rounding) -> int:
    """How many examples teach an answer that the headline grader rejects, because data.rounding asks for
    fewer digits than it does. The card shows them: the score of such a kind cannot be full."""
    if rounding.digits is None and rounding.places >= Rounding().places:
        return 0
    return sum(not grade(row.solution, parse_truth(row.truth)).correct for row in examples)


def repeat(examples: list[Example], wanted: Mapping[str, int], limit: int) -> list[Example]:
    """The training examples, those of a kind in `wanted` as often as brings the kind to that number of rows, but each
    at most `limit` times. A kind that is rarer than others is practised as much, without being learnt by heart."""
    repeated = list(examples)
    for kind, rows in wanted.items():
        own = [example for example in examples if example.kind == kind]
        more = min(rows, len(own) * limit) - len(own)
        repeated += [own[number % len(own)] for number in range(more)]
    return repeated


@dataclass(frozen=True, slots=True)
class _Task:
    """Rows for one worker, and all that it needs to write and measure their solutions."""

    rows: Candidates
    skill: Skill
    section: DataSection
    count_tokens: CountTokens


def _write(task: _Task) -> tuple[list[str], list[tuple[int, int]]]:
    with without_collector():
        solutions = [_written(row, task.skill, task.section) for row in task.rows]
        texts = [(row.question.text, solution) for row, solution in zip(task.rows, solutions, strict=True)]
        return solutions, task.count_tokens(texts)


def _written(row: Candidate, skill: Skill, section: DataSection) -> str:
    """The solution to train on, proven right."""
    question = row.question
    style, rounding = section.style(question.kind), section.rounding.for_kind(question.kind)
    stored = style == "raw" or question.kind in skill.free_text_kinds
    spelling: Spelling = "plain" if stored else section.spelling
    solution = spell(skill.render_solution(question, row.solution, style, rounding), spelling)
    # What will be taught is read back, so that the proof covers the spelling too.
    fault = skill.verify_solution(question, unspell(solution, spelling), style, rounding)
    if fault is None:
        return solution
    raise DataError(
        f"{row.file}:{row.line}: the {style} solution written for {question.text!r} is wrong "
        f"({fault}):\n{solution}\n"
        f"This is a bug in keeptune: please report it, and put {question.kind} into data.exclude meanwhile."
    )
