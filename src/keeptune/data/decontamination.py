"""Keeps scored problems out of training: removes forbidden problems, groups duplicates, and reports contamination.

A score on problems that were trained on, or on near-duplicates of them, measures memory. So problems that reveal each
other's answer get the same group key, and what still overlaps is counted in the data card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from keeptune.config.data import ALL_COLUMNS, REJECT_LIMIT, DataSection
from keeptune.data.chat_rows import check_rendering
from keeptune.data.columns import RowLayout
from keeptune.data.contamination import (
    ContaminationFilter,
    ContaminationReport,
    Problem,
    count_overlap_by_kind,
    report_contamination,
)
from keeptune.data.near_duplicates import group_near_duplicates, group_representatives
from keeptune.data.normalization import extract_numbers
from keeptune.data.reader import read_shard
from keeptune.data.row import RawRow, RejectedRow, find_question
from keeptune.data.selection import Candidate
from keeptune.data.solution_rendering import MAX_LISTED_ROWS, PreparedRow
from keeptune.data.sources import Sources, resolve_sources
from keeptune.data.special_tokens import SpecialTokenFilter
from keeptune.data.split import SplitName
from keeptune.data.workers import Executor
from keeptune.errors import DataError
from keeptune.grading.squad import load_reading_items
from keeptune.prompts.token_count import ChatRows
from keeptune.skills.arithmetic.contest_corpus import IsExcluded
from keeptune.skills.base import Question, Skill


def remove_forbidden(
    candidates: list[Candidate],
    section: DataSection,
    skill: Skill,
    test_problems: Sequence[Problem],
    chat: ChatRows | None = None,
) -> tuple[list[Candidate], Counter[str]]:
    """Remove the candidates that match a test problem or a problem in data.exclude_files.

    A problem also matches in another spelling, by its canonical form and, in free-text kinds, by 13 consecutive words.
    `chat` checks rows under a chat prompt.

    Returns:
        The remaining candidates, and the number of removed ones per kind.
    """
    # Only the problems are used.
    layout = replace(RowLayout.from_section(section, chat is not None), ignored=(ALL_COLUMNS,))
    excluded = _read_problems(section.exclude_files, layout, section.reject_limit, skill, chat)
    forbidden = [*test_problems, *excluded]
    if not forbidden:
        return candidates, Counter()
    contamination_filter = ContaminationFilter(forbidden, skill.free_text_kinds)
    remaining, removed = [], Counter[str]()
    for candidate in candidates:
        if contamination_filter.match(to_problem(candidate.question, skill)) is None:
            remaining.append(candidate)
        else:
            removed[candidate.question.kind] += 1
    return remaining, removed


def build_generation_filter(names: Sequence[str], skill: Skill) -> IsExcluded | None:
    """Return a predicate for generated problems that match a problem in these files, or None without files.

    Problems match as in `remove_forbidden`, with one difference. Generated free-text problems share their sentences, so
    13 consecutive words match only if the problems also have the same numbers.

    Raises:
        DataError: a file cannot be read or contains no known problem.
    """
    if not names:
        return None
    problems = _read_problems(names, RowLayout(ignored=(ALL_COLUMNS,)), REJECT_LIMIT, skill)
    contamination_filter = ContaminationFilter(problems, skill.free_text_kinds)
    known_numbers = {extract_numbers(problem.text) for problem in problems if problem.kind in skill.free_text_kinds}

    def is_forbidden(problem: str, solution: str) -> bool:
        question = skill.parse(problem, solution)
        match = None if question is None else contamination_filter.match(to_problem(question, skill))
        return extract_numbers(problem) in known_numbers if match == "overlap" else match is not None

    return is_forbidden


def duplicate_group_keys(candidates: Sequence[Candidate], section: DataSection, skill: Skill) -> list[str]:
    """Return a key for each candidate that is equal for problems which must be in the same split.

    The key is the canonical form of the problem. In free-text kinds, it is the representative of its near-duplicates.
    """
    keys = [skill.canonical_form(candidate.question) for candidate in candidates]
    indices = [index for index, candidate in enumerate(candidates) if candidate.question.kind in skill.free_text_kinds]
    texts = [candidates[index].question.text for index in indices]
    groups = group_near_duplicates(texts, section.near_threshold)
    for index, representative in zip(indices, group_representatives(texts, groups), strict=True):
        keys[index] = representative
    return keys


def mark_repeats(group_keys: Sequence[str]) -> list[bool]:
    """Return, for each candidate, whether an earlier one has the same `duplicate_group_keys`."""
    seen: set[str] = set()
    is_repeat = []
    for key in group_keys:
        is_repeat.append(key in seen)
        seen.add(key)
    return is_repeat


def check_contamination(
    splits: Mapping[SplitName, Sequence[PreparedRow]],
    group_keys: Mapping[str, str],
    free_text: Container[str],
    reading_set: str,
    executor: Executor,
) -> ContaminationReport:
    """Report the overlap of the training rows with dev, test and the reading set.

    `group_keys` maps the ids of rows to their `duplicate_group_keys`.
    """
    items = load_reading_items(reading_set)
    retained_texts = sorted(
        {item.context for item in items} | {f"{item.question} {' '.join(item.answers)}" for item in items}
    )
    train = splits["train"]
    texts = [(row.kind, f"{row.problem}\n{row.solution}") for row in train]
    count = executor.worker_count
    tasks = [(texts[start::count], retained_texts) for start in range(count)]
    retained_overlap: Counter[str] = Counter()
    for overlap in executor.map(_count_overlap, tasks):
        retained_overlap.update(overlap)
    held_out = [_row_to_problem(row, group_keys) for row in (*splits["dev"], *splits["test"])]
    train_problems = [_row_to_problem(row, group_keys) for row in train]
    return report_contamination(train_problems, held_out, free_text, retained_overlap)


def _read_problems(
    names: Sequence[str], layout: RowLayout, limit: float, skill: Skill, chat: ChatRows | None = None
) -> list[Problem]:
    """Return the problems in all files that the names denote. Problems of unknown kind count as free text.

    Raises:
        DataError: as in `read_questions`, or the share of rejected rows is above `limit`.
    """
    problems, rejected, rows_read = [], [], 0
    for row, question in read_questions(resolve_sources(names), layout, skill, chat=chat):
        rows_read += 1
        if isinstance(row, RejectedRow):
            rejected.append(row)
        elif isinstance(question, str):
            problems.append(Problem(min(skill.free_text_kinds), row.problem, row.problem))
        else:
            problems.append(to_problem(question, skill))
    if len(rejected) > limit * rows_read:
        raise reject_limit_error(rejected, rows_read, "with problems excluded from training cannot be read", limit)
    return problems


def reject_limit_error(rejected: Sequence[RejectedRow], rows_read: int, problem: str, limit: float) -> DataError:
    """Return the error for a share of rejected rows above data.reject_limit. `problem` is the predicate of "rows"."""
    listed = "".join(f"\n  {row.file}:{row.line}: {row.reason}" for row in rejected[:MAX_LISTED_ROWS])
    more = f"\n  and {len(rejected) - MAX_LISTED_ROWS} more" if len(rejected) > MAX_LISTED_ROWS else ""
    return DataError(
        f"{len(rejected)} of {rows_read} rows {problem}, more than data.reject_limit = {limit:g} "
        f"allows:{listed}{more}\nRepair the files, remove the rows, or raise data.reject_limit in the recipe."
    )


def read_questions(
    sources: Sources,
    layout: RowLayout,
    skill: Skill,
    token_filter: SpecialTokenFilter | None = None,
    chat: ChatRows | None = None,
) -> Iterator[tuple[RawRow | RejectedRow, Question | str]]:
    """Yield all rows of these files, each with its question, or with the reason why it has none.

    `chat` checks rows under a chat prompt; without it, conversations are rejected.

    Raises:
        DataError: a file cannot be read, or contains no known problem and so would exclude nothing.
    """
    files_without_question = {source.file for source in sources.files}
    for shard in sources.shards:
        rows = read_shard(shard, layout)
        for raw in rows if token_filter is None else map(token_filter.apply, rows):
            row = raw if isinstance(raw, RejectedRow) else check_rendering(raw, chat)
            question = row.reason if isinstance(row, RejectedRow) else find_question(skill, row)
            if not isinstance(question, str):
                files_without_question.discard(shard.file)
            yield row, question
    if files_without_question:
        raise DataError(
            f"{min(files_without_question)}: no row is a problem of a known kind, so the file has no effect; check the "
            "file and the names of its columns"
        )


def to_problem(question: Question, skill: Skill) -> Problem:
    """Return the question in the form in which problems are compared."""
    return Problem(question.kind, question.text, skill.canonical_form(question))


def _count_overlap(task: tuple[list[tuple[str, str]], list[str]]) -> dict[str, int]:
    return count_overlap_by_kind(*task)


def _row_to_problem(row: PreparedRow, group_keys: Mapping[str, str]) -> Problem:
    # A paraphrase has another id than its original problem, so it has no group key.
    return Problem(row.kind, row.problem, group_keys.get(row.id, row.problem))
