"""Skills with a grader: which rows they accept, what they train on, and which kinds they have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding
from keeptune.errors import RecipeError
from keeptune.skills.base import Question, Skill, UnusableRowError
from keeptune.skills.registry import skill_by_name, skill_for_section

PROBLEM = "CREATE TABLE tea (name TEXT, price INT)\n\nWhich teas cost more than 4?"


def skill(name: str, grader: Any = None, **data: Any) -> Skill:
    return skill_for_section(DataSection(skill=name, grader=grader, files=("rows.jsonl",), **data))


@pytest.mark.parametrize(
    ("name", "grader", "problem", "solution", "kind", "truth"),
    [
        ("text", {"name": "number", "answer": "after '####'"}, "?", "2 + 3 = 5\n#### 5 kg", "text", "5 kg"),
        ("text", "exact", "?", "Paris.", "text", "Paris."),
        ("text", {"name": "choice", "answer": "last line"}, "?", "Hm.\n(B) Paris", "text", "(B) Paris"),
        ("text", {"name": "math", "answer": "boxed"}, "?", r"So \boxed{1} or \boxed{2}.", "text", "1, 2"),
        ("labels", {"name": "label", "labels": ["red", "blue"]}, "?", "Blue", "blue", "Blue"),
        ("extraction", None, "?", 'So: {"a": 1}', "text", '{"a": 1}'),
        (
            "sql",
            None,
            PROBLEM,
            "SELECT name FROM tea WHERE price > 4;",
            "text",
            "SELECT name FROM tea WHERE price > 4;",
        ),
    ],
)
def test_a_solution_states_its_truth_and_is_trained_on_as_it_is(
    name: str, grader: Any, problem: str, solution: str, kind: str, truth: str
) -> None:
    tested = skill(name, grader)
    question = tested.parse(problem, solution)
    assert question == Question(kind, problem, truth)
    assert kind in tested.kinds
    assert tested.render_solution(question, solution, "longhand", Rounding()) == solution
    assert tested.verify_solution(question, solution, "longhand", Rounding()) is None
    short = tested.render_solution(question, solution, "answer", Rounding())
    assert tested.verify_solution(question, short, "answer", Rounding()) is None
    assert tested.verify_solution(question, "Something else", "longhand", Rounding()) is not None


@pytest.mark.parametrize(
    ("name", "grader", "problem", "solution", "reason"),
    [
        ("text", {"name": "number", "answer": "after '####'"}, "?", "#### Step 1\nIt is 5", "no answer"),
        ("text", "number", "?", "five", "not a number"),
        ("labels", {"name": "label", "labels": ["red", "blue"]}, "?", "green", "no label"),
        ("extraction", None, "?", '{"a": 1', "no answer"),
        ("sql", None, "Which teas?", "SELECT 1", "CREATE TABLE"),
        ("sql", None, PROBLEM, "SELECT nme FROM tea", "no such column"),
        ("text", "regex", "?", "a+b", "rejects"),
    ],
)
def test_an_unusable_row_is_refused_with_the_reason(
    name: str, grader: Any, problem: str, solution: str, reason: str
) -> None:
    with pytest.raises(UnusableRowError, match=reason):
        skill(name, grader).parse(problem, solution)


def test_equations_of_free_text_must_hold_but_conditions_of_queries_need_not() -> None:
    text = skill("text", {"name": "number", "answer": "last line"})
    question = text.parse("?", "2 + 3 = 6\n6")
    assert question is not None
    assert text.find_error(question, "2 + 3 = 6\n6") == "wrong step: 2 + 3 = 6"
    query = "SELECT name FROM tea WHERE price > 4 OR 1 = 2"
    sql = skill("sql")
    question = sql.parse(PROBLEM, query)
    assert question is not None
    assert sql.find_error(question, query) is None


def test_patterns_and_labels_of_a_column_give_kinds() -> None:
    by_pattern = skill("text", "exact", patterns={"short": ".{1,3}", "long": ".*"})
    assert [by_pattern.parse(text, "x").kind for text in ("ab", "abcdef")] == ["short", "long"]  # type: ignore[union-attr]
    by_column = skill("text", "exact", columns={"kind": "topic"}, kinds=("a", "b"))
    assert by_column.parse("?", "x", "b").kind == "b"  # type: ignore[union-attr]
    assert skill("text", "exact", patterns={"short": "."}).parse("long", "x") is None


def test_an_adapter_finds_its_skill_again() -> None:
    labels = skill("labels", {"name": "label", "labels": ["red", "blue"]})
    again = skill_by_name("labels", labels.grader)
    assert (again.kinds, again.grader) == (labels.kinds, labels.grader)
    assert skill_by_name("text").grader is None
    assert skill_by_name("sql").grader == skill("sql").grader


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"skill": "labels"}, "labels: [...]"),
        ({"skill": "extraction", "grader": "exact"}, "json"),
        ({"skill": "text", "grader": "exact", "synth": {"rows": 5}, "files": ()}, "data.synth"),
        ({"skill": "labels", "grader": {"name": "label", "labels": ["a", "b"]}, "patterns": {"x": "."}}, "patterns"),
        ({"skill": "sql", "wrong": "correct"}, "data.wrong"),
        ({"skill": "arithmetic", "grader": "exact"}, "data.grader"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data: dict[str, Any], named: str) -> None:
    with pytest.raises((ValidationError, RecipeError), match=named.replace("[...]", "")):
        skill_for_section(DataSection(**{"files": ("rows.jsonl",), **data}))


@given(st.text(max_size=40), st.sampled_from(["after '####'", "last line", "whole", "boxed"]))
def test_whatever_is_accepted_grades_as_right(solution: str, answer: str) -> None:
    tested = skill("text", {"name": "exact", "answer": answer})
    try:
        question = tested.parse("?", solution)
    except UnusableRowError:
        return
    assert question is not None and tested.grader is not None
    assert tested.grader.grade(solution, str(question.truth)).is_right
