"""The skill and grader that `keeptune init` guesses from the solutions of a file."""

import pytest

from keeptune.config.data import ColumnsSection
from keeptune.data.columns import RowLayout
from keeptune.data.layout_guess import LayoutGuess
from keeptune.data.reader import RawRow
from keeptune.errors import RecipeError
from keeptune.grading.graders.overlap import Rouge
from keeptune.pipeline.skill_guess import describe_grader, guess_skill
from keeptune.skills.base import Skill

TABLE = "CREATE TABLE users (id INTEGER, age INTEGER)"


def guessed(problems: list[str], solutions: list[str], column: str = "solution", kinds: tuple[str, ...] = ()) -> Skill:
    rows = [RawRow("f", line, *pair) for line, pair in enumerate(zip(problems, solutions, strict=True), start=1)]
    return guess_skill(rows, LayoutGuess(RowLayout(ColumnsSection(solution=column)), kinds, ""))


def recurring(*values: str) -> list[str]:
    return [values[number % len(values)] for number in range(24)]


NUMBERS = [str(number) for number in range(24)]
PROBLEMS = [f"Question {number}?" for number in NUMBERS]
CASES: dict[str, tuple[list[str], list[str], str, tuple[str, str | None]]] = {
    "arithmetic": (
        [f"计算 {n} + 1 等于多少？" for n in NUMBERS],
        [str(int(n) + 1) for n in NUMBERS],
        "solution",
        ("arithmetic", None),
    ),
    "labels": (PROBLEMS, recurring("good", "bad", "neither"), "solution", ("labels", "label")),
    # Classes as numbers were graded as numbers with a tolerance.
    "class-numbers": (PROBLEMS, recurring("0", "1", "2"), "label", ("labels", "label")),
    "few-numbers": (PROBLEMS, recurring("0", "1", "2"), "answer", ("text", None)),
    # Letters were compared as texts, so that `The answer is B` was wrong.
    "letters": (PROBLEMS, recurring("A", "B", "D"), "answer", ("text", "choice")),
    "json": (PROBLEMS, [f'{{"price": {n}}}' for n in NUMBERS], "output", ("extraction", "json")),
    # Queries were compared as texts.
    "sql": (
        [f"{TABLE}\n\n{problem}" for problem in PROBLEMS],
        [f"SELECT COUNT(*) FROM users WHERE age > {n}" for n in NUMBERS],
        "answer",
        ("sql", "sql"),
    ),
    "sql-without-tables": (PROBLEMS, [f"SELECT a FROM t{n}" for n in NUMBERS], "answer", ("text", None)),
    # Long answers had to be equal to the reference, which no model reaches.
    "long": (
        PROBLEMS,
        [f"Product {n} is a solid thing, was made in Oslo and weighs much." for n in NUMBERS],
        "answer",
        ("text", "rouge"),
    ),
    "long-chinese": (
        PROBLEMS,
        [f"第{n}号产品质量很好，使用方便，大家都很喜欢它。" for n in NUMBERS],
        "answer",
        ("text", "rouge"),
    ),
    "worked": (
        PROBLEMS,
        [f"First add one to {n}, and then add one again.\n#### {int(n) + 2}" for n in NUMBERS],
        "answer",
        ("text", None),
    ),
    "names": (PROBLEMS, [f"fruit {n}" for n in NUMBERS], "answer", ("text", None)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_skill_and_its_grader(name: str) -> None:
    problems, solutions, column, expected = CASES[name]
    skill = guessed(problems, solutions, column)
    assert (skill.name, skill.grader and skill.grader.name) == expected
    assert describe_grader(skill, solutions)


def test_letters_beyond_d_are_options() -> None:
    skill = guessed(PROBLEMS, recurring("A", "F"))
    assert skill.grader is not None and skill.grader.model_dump()["letters"] == "ABCDEF"


def test_without_the_extra_long_answers_are_graded_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Rouge) -> None:
        raise RecipeError("not installed")

    monkeypatch.setattr(Rouge, "check_available", missing)
    problems, solutions, column, _ = CASES["long"]
    grader = guessed(problems, solutions, column).grader
    assert grader is not None and grader.name == "f1"


@pytest.mark.parametrize("case", [name for name in CASES if name != "arithmetic"])
def test_a_column_of_kinds_changes_no_grader(case: str) -> None:
    """Letters, JSON and long answers were compared as texts where the rows had a column of kinds."""
    problems, solutions, column, (_, grader) = CASES[case]
    skill = guessed(problems, solutions, column, ("easy", "hard"))
    assert (skill.grader.name if skill.grader else None) == grader
    assert {"easy", "hard"} <= set(skill.kinds)
