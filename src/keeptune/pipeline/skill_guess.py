"""Guesses the skill and the grader for rows from their solutions, for `keeptune init`."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from fractions import Fraction

from keeptune.data.layout_guess import LayoutGuess
from keeptune.data.reader import RawRow
from keeptune.errors import RecipeError
from keeptune.grading.answers import Truth
from keeptune.grading.base import GraderError
from keeptune.grading.graders.categorical import Choice, Label
from keeptune.grading.graders.json_fields import JsonFields
from keeptune.grading.graders.overlap import CharacterTokenizer, Rouge
from keeptune.grading.graders.sql import Sql
from keeptune.grading.graders.text import F1
from keeptune.grading.number import parse_number
from keeptune.grading.registry import create_grader
from keeptune.grading.stated_answer import parse_stated_truth
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill, UnusableRowError
from keeptune.skills.graded_text import Extraction, GradedText, Labels, TextToSql
from keeptune.skills.text import Text

_MAX_LABELS = 20
_MIN_SHARE = 0.9
"""A skill is guessed if this share of the rows has it."""

_LONG_ANSWER = 8
"""Answers of this many words or Chinese characters (median) can be worded in several ways."""

_MAX_QUERIES = 50
_LABEL_NAMES = ("label", "class", "category", "intent", "sentiment", "标签")
_LETTERS = "ABCDEFGHIJ"
_QUERY = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)

_GRADERS = {
    Choice.name: "choice, the letter of an option in any usual dress",
    JsonFields.name: "json, the share of the fields that are equal; rules per field: docs/how-to/graders.md",
    Sql.name: "sql, equal results of answer and reference on the tables of the problem",
    Rouge.name: "rouge, ROUGE-L: how much of the reference the answer has, from 0 to 1",
    F1.name: "f1, the words that answer and reference share, from 0 to 1; `rouge` needs keeptune[graders]",
}


def guess_skill(rows: Sequence[RawRow], guess: LayoutGuess) -> Skill:
    """Return the skill for nine of ten rows: arithmetic, labels, extraction of JSON, SQL, or else free text."""
    arithmetic = Arithmetic()
    known = 0
    for row in rows:
        question = arithmetic.parse(row.problem, row.solution)
        known += question is not None and question.kind not in arithmetic.free_text_kinds
    is_arithmetic = not guess.kinds and rows and known >= _MIN_SHARE * len(rows)
    if is_arithmetic:
        return arithmetic
    if not rows:
        return Text({}, guess.kinds)
    solutions = [row.solution.strip() for row in rows]
    is_label_column = guess.layout.columns.solution.rpartition(".")[2].strip().lower() in _LABEL_NAMES
    skill: GradedText | None = (
        _closed_set(solutions, numbers=is_label_column)
        or _extraction(solutions)
        or _text_to_sql(rows)
        or _long_text(solutions)
    )
    if skill is None or not guess.kinds:
        return skill or Text({}, guess.kinds)
    # Labels are their own kinds, so the kinds of a column need the general skill.
    skill_class = GradedText if isinstance(skill, Labels) else type(skill)
    return skill_class(skill.grader, {}, guess.kinds)


def _closed_set(solutions: Sequence[str], numbers: bool) -> GradedText | None:
    """Return labels, or the choice of a letter, if few solutions recur. Numbers count only where `numbers` is true."""
    labels = sorted(set(solutions))
    if not 1 < len(labels) <= _MAX_LABELS or len(labels) >= len(solutions) / 2:
        return None
    if set(labels) <= set(_LETTERS):
        letters = _LETTERS[: max(4, _LETTERS.index(labels[-1]) + 1)]
        return GradedText(create_grader({"name": Choice.name, "letters": letters}), {})
    if any("\n" in label or (parse_number(label) is not None and not numbers) for label in labels):
        return None
    try:
        return Labels(create_grader({"name": Label.name, "labels": labels}), {})
    except GraderError:  # labels that differ in case alone
        return None


def _extraction(solutions: Sequence[str]) -> GradedText | None:
    objects = sum(solution.startswith("{") and _is_json(solution) for solution in solutions)
    return Extraction(Extraction.default_grader(), {}) if objects >= _MIN_SHARE * len(solutions) else None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _text_to_sql(rows: Sequence[RawRow]) -> GradedText | None:
    """Return the skill if the solutions are queries that can be run on the tables of their problems."""
    skill = TextToSql(TextToSql.default_grader(), {})
    first = rows[:_MAX_QUERIES]
    if sum(_QUERY.match(row.solution) is not None for row in first) < _MIN_SHARE * len(first):
        return None
    return skill if sum(_is_usable(skill, row) for row in first) >= _MIN_SHARE * len(first) else None


def _is_usable(skill: Skill, row: RawRow) -> bool:
    try:
        return skill.parse(row.problem, row.solution) is not None
    except UnusableRowError:
        return False


def _long_text(solutions: Sequence[str]) -> GradedText | None:
    """Return text graded by overlap, if the solutions are long and state no short answer."""
    if 2 * sum(parse_stated_truth(solution) is not None for solution in solutions) >= len(solutions):
        return None
    words = CharacterTokenizer().tokenize
    if statistics.median(len(words(solution)) for solution in solutions) < _LONG_ANSWER:
        return None
    rouge = create_grader(Rouge.name)
    try:
        rouge.check_available()
    except RecipeError:
        return GradedText(create_grader(F1.name), {})
    return GradedText(rouge, {})


def describe_grader(skill: Skill, truths: Sequence[Truth]) -> str:
    """Return what grades the answers to these references, in words."""
    if isinstance(skill, Labels):
        return f"label, one of {len(skill.kinds)}: {', '.join(skill.kinds)}"
    if skill.grader is not None:
        return _GRADERS[skill.grader.name]
    if sum(isinstance(truth, Fraction) for truth in truths) >= _MIN_SHARE * len(truths):
        return "number, within max(0.005, 0.0001 × |reference|)"
    return "text, equal to the reference after normalization"
