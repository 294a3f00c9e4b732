"""Prepared rows have correct solutions in the requested style; wrong, empty and too long ones are reported."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding, Spelling, Style
from keeptune.data import solution_rendering
from keeptune.data.selection import Candidate, digest
from keeptune.data.solution_rendering import PreparedRow, count_coarse_answers, enforce_max_tokens, render_solutions
from keeptune.errors import DataError
from keeptune.grading.number import grade
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Question
from keeptune.skills.number_spelling import spell

SKILL = Arithmetic()
DIV = "计算 10.00 / 3.00 等于多少？"


def characters(texts: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(len(problem), len(solution)) for problem, solution in texts]


def section(**values: Any) -> DataSection:
    return DataSection.model_validate({"files": ["a"], "max_tokens": 100_000, **values})


def candidate(problem: str, solution: str = "", line: int = 1) -> Candidate:
    question = SKILL.parse(problem, solution)
    assert question is not None
    return Candidate(question, solution, SKILL.find_error(question, solution), "rows.jsonl", line)


def of_every_kind() -> list[Candidate]:
    generator = random.Random(5)
    return [candidate(*SKILL.generate(kind, generator)) for kind in SKILL.kinds for _ in range(5)]


def test_a_prepared_row_has_all_fields() -> None:
    rows = [candidate(DIV, "10.00 / 3.00 = 3.33", 7)]
    (example,) = render_solutions(rows, SKILL, section(styles={"div": "answer"}), characters)
    assert example == PreparedRow(
        digest(DIV).hex(), "div", DIV, "#### 3.33", "10/3", "rows.jsonl", 7, len(DIV), len("#### 3.33")
    )


@pytest.mark.parametrize("style", ["raw", "answer", "rule", "longhand"])
def test_every_kind_in_every_style(style: Style) -> None:
    rows = of_every_kind()
    examples = render_solutions(rows, SKILL, section(styles={"default": style}), characters)
    assert [example.problem for example in examples] == [row.question.text for row in rows]
    for example, row in zip(examples, rows, strict=True):
        assert example.solution == SKILL.render_solution(row.question, row.solution, style, Rounding())
        assert grade(example.solution, row.question.truth).correct


def test_style_and_places_are_set_per_kind_with_a_default() -> None:
    rows = [candidate(DIV), candidate("计算 10.00 的平方根？")]
    options = section(styles={"default": "answer"}, rounding={"decimals": {"default": 3, "div": 5}})
    assert [example.solution for example in render_solutions(rows, SKILL, options, characters)] == [
        "#### 3.33333",
        "#### 3.162",
    ]
    options = section(styles={"div": "answer", "default": "raw"})
    solutions = [example.solution for example in render_solutions(rows, SKILL, options, characters)]
    assert solutions == ["#### 3.33", "√10.00 = 3.162277660168379331998893544"]


@pytest.mark.parametrize("spelling", ["spaced", "grouped", "reversed"])
@pytest.mark.parametrize("style", ["raw", "answer", "rule", "longhand"])
def test_numbers_in_rendered_solutions_have_the_requested_spelling(style: Style, spelling: Spelling) -> None:
    rows = of_every_kind()
    examples = render_solutions(rows, SKILL, section(styles={"default": style}, spelling=spelling), characters)
    changed = 0
    for example, row in zip(examples, rows, strict=True):
        solution = SKILL.render_solution(row.question, row.solution, style, Rounding())
        is_stored_text = style == "raw" or example.kind == "english"
        assert example.solution == (solution if is_stored_text else spell(solution, spelling))
        assert example.solution_tokens == len(example.solution)
        assert grade(example.solution, row.question.truth).correct
        changed += example.solution != solution
    assert changed > 20 if style in ("rule", "longhand") else changed == 0


@pytest.mark.parametrize(
    ("spelling", "broken"),
    [
        ("spaced", lambda text: text.replace("2 0 0", "2 0")),
        ("grouped", lambda text: text.replace("13,050", "13,500")),
        ("reversed", lambda text: text.replace("5031-", "5013-")),
    ],
)
def test_a_wrong_spelling_is_detected(
    monkeypatch: pytest.MonkeyPatch, spelling: Spelling, broken: Callable[[str], str]
) -> None:
    problem = "计算 13050.00 / 12.00 等于多少？"
    options = section(styles={"default": "longhand"}, spelling=spelling)
    (example,) = render_solutions([candidate(problem)], SKILL, options, characters)
    assert broken(example.solution) != example.solution
    monkeypatch.setattr(solution_rendering, "spell", lambda text, how: broken(spell(text, how)))
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the longhand"):
        render_solutions([candidate(problem)], SKILL, options, characters)


def test_a_wrong_solution_is_detected() -> None:
    class Careless(Arithmetic):
        def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
            return super().render_solution(question, solution, style, rounding).replace("3.33", "3.34")

    with pytest.raises(DataError, match=r"rows\.jsonl:7: the answer"):
        render_solutions([candidate(DIV, line=7)], Careless(), section(styles={"default": "answer"}), characters)


@pytest.mark.parametrize("style", ["answer", "rule", "longhand"])
def test_a_coarse_rounding_is_rendered_as_declared_and_counted(style: Style) -> None:
    rows = [candidate(DIV), candidate("计算 7.00 / 2.00 等于多少？"), candidate("计算 10.00 的平方根？")]
    options = section(styles={"default": style}, rounding={"decimals": {"div": 1}})
    examples = render_solutions(rows, SKILL, options, characters)
    assert [example.solution.rpartition("\n")[2] for example in examples] == ["#### 3.3", "#### 3.5", "#### 3.16"]
    assert count_coarse_answers(examples, Rounding(1)) == 1


def test_a_coarse_answer_in_another_rounding_is_detected() -> None:
    class Careless(Arithmetic):
        def render_solution(self, question: Question, solution: str, style: Style, rounding: Rounding) -> str:
            return super().render_solution(question, solution, style, rounding).replace("3.3", "3.33")

    with pytest.raises(DataError, match="is wrong"):
        render_solutions(
            [candidate(DIV)],
            Careless(),
            section(styles={"default": "answer"}, rounding={"decimals": {"div": 1}}),
            characters,
        )


def test_a_solution_without_tokens_is_an_error() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:7: .* no token"):
        render_solutions([candidate(DIV, line=7)], SKILL, section(), lambda texts: [(5, 0)] * len(texts))


def test_long_rows_are_listed_or_dropped() -> None:
    lengths = [(10, 5), (10, 6), (3, 30), (1, 1)]
    rows = [candidate(f"计算 {number}.00 的平方根？", line=number) for number in range(1, 5)]
    examples = render_solutions(rows, SKILL, section(), lambda _: lengths)
    assert enforce_max_tokens(examples, section(max_tokens=33)) == examples
    assert enforce_max_tokens(examples, section(max_tokens=15, too_long="drop")) == [examples[0], examples[3]]
    with pytest.raises(DataError) as caught:
        enforce_max_tokens(examples, section(max_tokens=15))
    message = str(caught.value)
    assert "data.max_tokens = 15" in message
    assert "rows.jsonl:3 (sqrt): 33 tokens" in message
    assert "rows.jsonl:2 (sqrt): 16 tokens" in message
    assert "Raise data.max_tokens to 33" in message
