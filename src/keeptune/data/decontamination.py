"""What keeps scored problems out of training: forbidden files, near-duplicates on one side, and a count of what leaks.

A score on problems that were trained on, or on their twins, says what was remembered. So nothing here is left to the
hash of a text: problems that give each other away stand together, and what slips through is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence

from keeptune.config.data import REJECT_LIMIT, ColumnsSection, DataSection
from keeptune.data.contamination import Forbidden, Leaks, Problem, find_leaks, overlap_by_kind
from keeptune.data.near_duplicates import near_groups, representatives
from keeptune.data.normalization import operands
from keeptune.data.reader import read_shard
from keeptune.data.row import Rejected, Row
from keeptune.data.selection import Candidate
from keeptune.data.solution_rendering import NAMED_ROWS, Example
from keeptune.data.sources import Sources, sources
from keeptune.data.split import Part
from keeptune.data.workers import Workers
from keeptune.errors import DataError
from keeptune.grading.squad import load_reading_items
from keeptune.skills.arithmetic.contest_corpus import IsExcluded
from keeptune.skills.base import Question, Skill


def without_unseen(
    rows: list[Candidate], section: DataSection, skill: Skill, tested: Sequence[Problem]
) -> tuple[list[Candidate], Counter[str]]:
    """Returns the rows that are neither a `tested` problem nor in data.exclude_files, and the removed ones per kind.

    A problem is recognised in another spelling, as a twin, and in free text by 13 words in sequence, too.
    """
    unseen = [*tested, *_problems_in(section.exclude_files, section.columns, section.reject_limit, skill)]
    if not unseen:
        return rows, Counter()
    forbidden = Forbidden(unseen, skill.free_text_kinds)
    found = [forbidden.match(stated(row.question, skill)) for row in rows]
    kept = [row for row, match in zip(rows, found, strict=True) if match is None]
    return kept, Counter(row.question.kind for row, match in zip(rows, found, strict=True) if match)


def refusal(names: Sequence[str], skill: Skill) -> IsExcluded | None:
    """Whether an invented problem must not be written because it is one of these files; None without files.

    A problem is recognised as by `without_unseen`, with one difference: invented problems in free text share their
    sentences, so 13 words in sequence count only between problems with the same numbers.

    errors: DataError for files that cannot be read, or without a problem.
    """
    if not names:
        return None
    problems = _problems_in(names, ColumnsSection(), REJECT_LIMIT, skill)
    forbidden = Forbidden(problems, skill.free_text_kinds)
    numbers = {operands(problem.text) for problem in problems if problem.kind in skill.free_text_kinds}

    def refused(problem: str, solution: str) -> bool:
        question = skill.parse(problem, solution)
        match = None if question is None else forbidden.match(stated(question, skill))
        return operands(problem) in numbers if match == "overlap" else match is not None

    return refused


def sides(rows: Sequence[Candidate], section: DataSection, skill: Skill) -> list[str]:
    """A text for each row that is the same for problems which may not be parted: of its twins, or of the
    near-duplicates of a problem in free text."""
    texts = [skill.canonical_form(row.question) for row in rows]
    places = [place for place, row in enumerate(rows) if row.question.kind in skill.free_text_kinds]
    own = [rows[place].question.text for place in places]
    groups = near_groups(own, section.near_threshold)
    for place, first in zip(places, representatives(own, groups), strict=True):
        texts[place] = first
    return texts


def repeats(together: Sequence[str]) -> list[bool]:
    """Whether each row says what an earlier one says, by their `sides`: its numbers exchanged, or in free text almost
    the same words."""
    seen: set[str] = set()
    found = []
    for text in together:
        found.append(text in seen)
        seen.add(text)
    return found


def leaks(
    parts: Mapping[Part, Sequence[Example]],
    together: Mapping[str, str],
    free_text: Container[str],
    source: str,
    staff: Workers,
) -> Leaks:
    """What the training rows give away of dev, test and the reading set `source`; `together` has each id's `sides`."""
    items = load_reading_items(source)
    retained = sorted(
        {item.context for item in items} | {f"{item.question} {' '.join(item.answers)}" for item in items}
    )
    train = parts["train"]
    rows = [(example.kind, f"{example.problem}\n{example.solution}") for example in train]
    tasks = [(rows[start :: staff.count], retained) for start in range(staff.count)]
    from_retained: Counter[str] = Counter()
    for found in staff.map(_overlap, tasks):
        from_retained.update(found)
    held = [_problem(example, together) for example in (*parts["dev"], *parts["test"])]
    return find_leaks([_problem(example, together) for example in train], held, free_text, from_retained)


def _problems_in(names: Sequence[str], columns: ColumnsSection, limit: float, skill: Skill) -> list[Problem]:
    """The problems of all files that the names stand for; one that is not understood is a free text.

    errors: as of `understood`; DataError when a larger share of rows than `limit` cannot be read.
    """
    problems, rejected, read = [], [], 0
    for row, question in understood(sources(names), columns, skill):
        read += 1
        if isinstance(row, Rejected):
            rejected.append(row)
        elif question is None:
            problems.append(Problem(min(skill.free_text_kinds), row.problem, row.problem))
        else:
            problems.append(stated(question, skill))
    if len(rejected) > limit * read:
        raise too_many(rejected, read, "of the problems that must not be taught cannot be read", limit)
    return problems


def too_many(rejected: Sequence[Rejected], read: int, what: str, limit: float) -> DataError:
    """The error where so many rows cannot be used that the rest says little: which, and what to do."""
    named = "".join(f"\n  {row.file}:{row.line}: {row.reason}" for row in rejected[:NAMED_ROWS])
    more = f"\n  and {len(rejected) - NAMED_ROWS} more" if len(rejected) > NAMED_ROWS else ""
    return DataError(
        f"{len(rejected)} of {read} rows {what}, more than data.reject_limit = {limit:g} "
        f"allows:{named}{more}\nRepair the files, take the rows out, or raise data.reject_limit in the recipe."
    )


def understood(
    found: Sources, columns: ColumnsSection, skill: Skill
) -> Iterator[tuple[Row | Rejected, Question | None]]:
    """All rows of these files, each with its question or None.

    errors: DataError for a file that cannot be read; and for one without a problem, which would forbid nothing.
    """
    without = {source.file for source in found.files}
    for shard in found.shards:
        for row in read_shard(shard, columns):
            question = None if isinstance(row, Rejected) else skill.parse(row.problem, row.solution, row.label)
            if question is not None:
                without.discard(shard.file)
            yield row, question
    if without:
        raise DataError(
            f"{min(without)}: no row of it is a problem that can be recognised, so it would forbid nothing; "
            "check the file and the names of its columns"
        )


def stated(question: Question, skill: Skill) -> Problem:
    """The problem as it is compared with others."""
    return Problem(question.kind, question.text, skill.canonical_form(question))


def _overlap(task: tuple[list[tuple[str, str]], list[str]]) -> dict[str, int]:
    return overlap_by_kind(*task)


def _problem(example: Example, together: Mapping[str, str]) -> Problem:
    # A paraphrase has another id than the problem it was made of, and no twin.
    return Problem(example.kind, example.problem, together.get(example.id, example.problem))
