"""The worked examples of EXTENDING.md: each block of code is run, and each extension is used."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from keeptune.config.data import DataSection
from keeptune.config.solution_format import Rounding
from keeptune.data.columns import RowLayout

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "EXTENDING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@cache
def example(symbol: str) -> Any:
    """A class or function that a Python block of the page defines."""
    (code,) = [block for block in blocks("python") if re.search(rf"^(class|def) {symbol}\b", block, re.MULTILINE)]
    namespace: dict[str, Any] = {"__name__": "extending"}
    exec(compile(code, f"EXTENDING.md, {symbol}", "exec"), namespace)
    return namespace[symbol]


def test_the_question_file_is_read(tmp_path: Path) -> None:
    from keeptune.evaluation.abilities.questions import read_questions
    from keeptune.grading.registry import EMBEDDED_GRADERS

    (text,) = blocks("jsonl")
    path = tmp_path / "questions.jsonl"
    path.write_text(text, encoding="utf-8")
    questions = read_questions(path)
    assert len(questions) == 5
    assert {question.grader for question in questions} <= {*EMBEDDED_GRADERS, None}


def test_recipe_sections_are_valid() -> None:
    from keeptune.config.prompt import PromptSection
    from keeptune.config.score import ScoreSection
    from keeptune.config.train import TrainSection

    sections = {"data": DataSection, "prompt": PromptSection, "score": ScoreSection, "train": TrainSection}
    trees = [yaml.safe_load(block) for block in blocks("yaml")]
    for tree in trees:
        for name, section in tree.items():
            sections[name].model_validate(section)
    assert len(trees) == 4


def test_the_entry_point_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for block in blocks("python") if "entry_points" in block]
    exec(compile(code, "EXTENDING.md", "exec"), {})
    assert capsys.readouterr().out == "keeptune.mindspore.backend:MindSpore\n"


def test_the_skill_parses_its_problems_and_finds_a_wrong_answer() -> None:
    skill = example("UnitConversion")()
    problem, raw = skill.generate("km-to-m", random.Random(1))
    question = skill.parse(problem, raw)
    assert question is not None
    solution = skill.render_solution(question, raw, "longhand", Rounding())
    assert skill.verify_solution(question, solution, "longhand", Rounding()) is None
    assert skill.verify_solution(question, solution + "0", "longhand", Rounding()) is not None
    assert skill.parse("Convert 1 mile to m.", "1609") is None


def test_the_ability_pairs_base_and_tuned() -> None:
    ability = example("Capitals")()
    stated = [ability.item_fields(item) for item in ability.items("final", "full")]
    base, tuned = (
        [
            {**record, **ability.grade_record({**record, "output": output})}
            for record, output in zip(stated, outputs, strict=True)
        ]
        for outputs in (["Tokyo.", "Nairobi", "Lima"], ["Tokyo", "Mombasa", "Lima"])
    )
    (measured,) = ability.measurements(base, tuned)
    assert measured.base.tolist() == [1, 1, 1]
    assert measured.tuned.tolist() == [1, 0, 1]


def test_the_ability_evaluates_a_model(model_folder: Path) -> None:
    import tiny
    from evaluation.pairs import subject

    ability = example("Capitals")()
    items = ability.items("final", "full")
    records = ability.collect_records(subject(tiny.load(model_folder)), items, None)
    assert [record["id"] for record in records] == [f"capital-{item}" for item in items]


def test_the_reader_yields_rows_and_names_bad_lines(tmp_path: Path) -> None:
    from keeptune.data.row import RawRow, RejectedRow

    path = tmp_path / "rows.psv"
    path.write_text("problem|solution\n1 + 1|2\nonly one field\n", encoding="utf-8")
    row, rejected = example("read_psv")(path, RowLayout())
    assert isinstance(row, RawRow)
    assert (row.problem, row.solution) == ("1 + 1", "2")
    assert isinstance(rejected, RejectedRow)
    assert rejected.line == 3


def test_the_grader_scores_between_0_and_1() -> None:
    grader = example("StartsWith")(ignore_case=True)
    assert grader.grade("Paris, of course", "paris").score == 1
    assert grader.grade("It is Paris", "paris").score == 0
