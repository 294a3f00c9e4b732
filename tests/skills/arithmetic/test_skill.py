"""The skill understands, judges and writes every kind; real stored solutions are judged as they deserve."""

import json
import os
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from cpu_time import bounded_work
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding, Style
from keeptune.data.reader import RawRow, read_rows
from keeptune.grading.number import grade
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Question, Skill
from keeptune.skills.rounding import is_rounded
from keeptune.skills.rounding_policy import is_coarser_than_headline

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the public rows are not at hand")

SKILL: Skill = Arithmetic()
CHINESE_KINDS = SKILL.kinds[:-1]
TWO = Rounding(2)
ROUNDINGS = st.builds(Rounding, st.integers(0, 12), st.none() | st.integers(1, 12), st.sampled_from(["up", "even"]))


def understood(problem: str, solution: str = "") -> Question:
    question = SKILL.parse(problem, solution)
    assert question is not None
    return question


def drawn(kind: str, seed: int) -> tuple[Question, str]:
    problem, solution = SKILL.generate(kind, random.Random(seed))
    return understood(problem, solution), solution


def test_correct_raw_solutions_stay_unchanged() -> None:
    question = understood("计算 10.00 / 3.00 等于多少？")
    for stored in ("10.00 / 3.00 = 10 / 3 = 3.33", "10.00 / 3.00 = 3.33"):
        assert SKILL.find_error(question, stored) is None
        assert SKILL.render_solution(question, stored, "raw", TWO) == stored
    wrong = "10.00 / 3.00 = 10 / 4 = 2.50"
    assert SKILL.render_solution(question, wrong, "raw", TWO).startswith("10.00 / 3.00 = 3.333")


def test_kinds() -> None:
    assert SKILL.name == "arithmetic"
    assert len(SKILL.kinds) == len(set(SKILL.kinds)) == 15
    assert SKILL.kinds[-1] == "english"


@given(st.sampled_from(SKILL.kinds), st.integers())
def test_invented_rows_are_understood_and_right(kind: str, seed: int) -> None:
    question, solution = drawn(kind, seed)
    assert question.kind == kind
    assert SKILL.find_error(question, solution) is None
    assert SKILL.render_solution(question, solution, "raw", TWO) == solution


@given(st.sampled_from(SKILL.kinds), st.integers(), st.sampled_from(["raw", "answer", "rule", "longhand"]))
def test_written_solutions_pass_the_check_and_the_grader(kind: str, seed: int, style: Style) -> None:
    question, stored = drawn(kind, seed)
    written = SKILL.render_solution(question, stored, style, TWO)
    assert SKILL.verify_solution(question, written, style, TWO) is None
    assert grade(written, question.truth).correct
    if style != "raw":
        assert written.rpartition("\n")[2].startswith("#### ")
    if style == "answer":
        assert "\n" not in written


@given(st.sampled_from(CHINESE_KINDS), st.integers(), st.sampled_from(["answer", "rule", "longhand"]), ROUNDINGS)
def test_every_rounding_is_written_as_declared(kind: str, seed: int, style: Style, rounding: Rounding) -> None:
    question, stored = drawn(kind, seed)
    written = SKILL.render_solution(question, stored, style, rounding)
    assert SKILL.verify_solution(question, written, style, rounding) is None
    if rounding.places >= 2 if rounding.digits is None else rounding.digits >= 5:
        assert grade(written, question.truth).correct
    exact = kind == "fraction" or (style == "longhand" and kind in ("power", "function"))
    if not exact:
        assert isinstance(question.truth, Fraction)
        assert is_rounded(Fraction(written.rpartition("#### ")[2]), question.truth, rounding)


@pytest.mark.parametrize("kind", CHINESE_KINDS)
@pytest.mark.parametrize("rounding", [Rounding(0), Rounding(1), Rounding(1, halves="even"), Rounding(digits=3)])
def test_a_coarse_answer_is_right_only_as_declared(kind: str, rounding: Rounding) -> None:
    for seed in range(40):
        question, stored = drawn(kind, seed)
        solved = SKILL.render_solution(question, stored, "longhand", rounding)
        assert SKILL.verify_solution(question, solved, "longhand", rounding) is None
        before, marker, answer = solved.rpartition("#### ")
        for other in (rounding.places + 1, rounding.places + 3):
            finer = SKILL.render_solution(question, stored, "answer", Rounding(other))
            if is_coarser_than_headline(Fraction(question.truth), rounding) and finer != marker + answer:
                assert SKILL.verify_solution(question, before + finer, "longhand", rounding) is not None


def test_steps_show_the_digits_that_are_asked_for() -> None:
    question = understood("计算 20.00 / 3000.00 等于多少？")
    assert SKILL.render_solution(question, "", "longhand", Rounding(digits=5)).endswith(
        "=0.00666666...\n#### 0.0066667"
    )
    assert SKILL.render_solution(question, "", "longhand", Rounding(digits=1)).endswith("=0.0066...\n#### 0.007")
    assert SKILL.render_solution(question, "", "longhand", TWO).endswith("=0.006666666...\n#### 6.66667E-3")


@given(st.sampled_from(CHINESE_KINDS), st.integers(), st.sampled_from(["raw", "answer", "rule", "longhand"]))
def test_the_check_refuses_the_solution_of_another_problem(kind: str, seed: int, style: Style) -> None:
    question, stored = drawn(kind, seed)
    other, _ = drawn(kind, seed + 1)
    if not grade(f"#### {SKILL.render_solution(other, '', 'answer', TWO)}", question.truth).correct:
        assert SKILL.verify_solution(question, SKILL.render_solution(other, stored, style, TWO), style, TWO) is not None


@pytest.mark.parametrize(
    ("problem", "solution"),
    [
        ("What is 1 + 1?", "It is 2."),
        ("计算 1 + 1 + 1 等于多少？", "\\boxed{3}"),
        ("What is 1＋1?", "\\boxed{2}"),
        ("計算 one", "\\boxed{1}"),
        ("计算 1.00 / 0.00 等于多少？", "1.00 / 0.00 = 0"),
        ("当 x = 999999999.99 时，求函数 y = 9x^999 的值", "函数的值为：1"),
        ("What is it?", f"\\boxed{{{'9' * 500}}}"),
    ],
)
def test_what_is_not_understood(problem: str, solution: str) -> None:
    assert SKILL.parse(problem, solution) is None


@pytest.mark.parametrize(
    ("problem", "solution", "truth"),
    [
        ("How many?", "So $\\boxed{18}$.", Fraction(18)),
        ("How many?", "9 * 2 = 18\n#### 18", Fraction(18)),
        ("Simplify.", "$\\boxed{7\\sqrt{5}}$", "7\\sqrt{5}"),
    ],
)
def test_english_takes_its_truth_from_the_solution(problem: str, solution: str, truth: Fraction | str) -> None:
    assert understood(problem, solution) == Question("english", problem, truth)


def test_english_solutions_end_in_the_boxed_answer_once() -> None:
    boxed = "Four flips of 2 give $\\boxed{\\dfrac{1}{16}}$ by counting 1 of 16. "
    marked = "9 * 2 = 18\n#### 18\n"
    question = understood("How likely?", boxed)
    assert SKILL.render_solution(question, boxed, "longhand", TWO) == f"{boxed.rstrip()}\n#### \\dfrac{{1}}{{16}}"
    assert SKILL.render_solution(question, boxed, "answer", TWO) == "#### \\dfrac{1}{16}"
    assert SKILL.render_solution(understood("How many?", marked), marked, "longhand", TWO) == marked.rstrip()


ADD, DIV = "计算 1.25 + 2.50 等于多少？", "计算 10.00 / 3.00 等于多少？"
MASS = "某物体的密度为 6 克/立方厘米，体积为 7 立方厘米，请计算该物体的质量。"
AREA = "一个长方形的长为 {} 厘米，宽为 {} 厘米，请计算其面积。"
SALES = "去年销售额为 50 万元，今年销售额增加了 9%，请计算今年的销售额。"
FRACTION = "将分数 4/10 进行简化。"


@pytest.mark.parametrize(
    ("problem", "solution"),
    [
        (ADD, "1.25 + 2.50 = 3.75"),
        (ADD, "1.25 + 2.50 = 3.750"),
        (ADD, "3.75"),
        (DIV, "10.00 / 3.00 = 3.333333333333333333333333333"),
        (DIV, "10.00 / 3.00 = 3.333"),
        (DIV, "10.00 / 3.00 = 10 / 3 = 3.33"),
        (MASS, "6 * 7 = 42\n42 克"),
        (SALES, "54.5"),
        (SALES, "54.500000000000007"),
        (SALES, "= 50 * 1.09 = 54.5"),
        (FRACTION, "最简化的形式为：2/5"),
        (FRACTION, "4/10 = 2/5"),
    ],
)
def test_right_stored_solutions(problem: str, solution: str) -> None:
    assert SKILL.find_error(understood(problem), solution) is None


@pytest.mark.parametrize(
    ("problem", "solution", "sort"),
    [
        (ADD, "1.25 + 2.50 = 3.76", "wrong answer"),
        (ADD, "1.25 + 2.50 = 3.754", "wrong answer"),
        (ADD, "2.50 + 1.25 = 3.75", "another problem"),
        (ADD, "1.25 + 2.51 = 3.75", "another problem"),
        (ADD, "The answer is 3.8", "wrong answer"),
        (ADD, "不知道", "no answer"),
        (DIV, "10.00 / 3.00 = 3.3333333333444444", "wrong answer"),
        (DIV, "10.00 / 3.00 = 3.3", "wrong answer"),
        (DIV, "10.00 / 3.00 = 3.34", "wrong answer"),
        (MASS, "6 * 7 = 43\n42 克", "wrong step"),
        (SALES, "= 50 * 1.9 = 54.5", "wrong step"),
        (FRACTION, "最简化的形式为：4/10", "wrong answer"),
        (FRACTION, "答案是 4/10", "wrong answer"),
        (FRACTION, "最简化的形式为：1/5", "wrong answer"),
    ],
)
def test_wrong_stored_solutions(problem: str, solution: str, sort: str) -> None:
    fault = SKILL.find_error(understood(problem), solution)
    assert fault is not None
    assert fault.partition(":")[0] == sort


@pytest.mark.parametrize("solution", ["#### " + "9" * 999_000, "=\n" * 400_000, " \n" * 400_000 + "x", "(" * 900_000])
def test_a_hostile_solution_costs_no_time_and_no_long_message(solution: str) -> None:
    with bounded_work():
        fault = SKILL.find_error(understood(ADD), solution)
    assert fault is not None
    assert len(fault) < 500


@needs_shared
def test_no_raw_row_is_at_fault() -> None:
    rows = [row for row in read_rows(SHARED / "contest" / "raw_sample.jsonl") if isinstance(row, RawRow)]
    kinds = Counter[str]()
    for row in rows:
        question = understood(row.problem, row.solution)
        kinds[question.kind] += 1
        assert SKILL.find_error(question, row.solution) is None
    assert kinds.total() == 294
    assert kinds["english"] == 6


@needs_shared
def test_of_a_team_s_solutions_21_sales_rows_are_at_fault_and_no_others() -> None:
    faults, kinds = Counter[tuple[str, str]](), Counter[str]()
    for row in read_rows(SHARED / "contest" / "conversations.json"):
        assert isinstance(row, RawRow)
        question = understood(row.problem, row.solution)
        kinds[question.kind] += 1
        fault = SKILL.find_error(question, row.solution)
        if fault:
            faults[question.kind, fault.partition(":")[0]] += 1
    assert kinds.total() == 7500
    assert kinds["sales"] == 161
    assert faults == {("sales", "wrong step"): 21}


@needs_shared
def test_gsm8k_rows_are_understood() -> None:
    rows = [json.loads(line) for line in (SHARED / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = [understood(row["question"], row["answer"]).truth for row in rows]
    assert len(answers) == 1319
    assert all(isinstance(answer, Fraction) for answer in answers)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("计算 1.25 + -2.50 等于多少？", "计算 -2.50 + 1.25 等于多少？"),
        ("计算 3.00 * 4.00 等于多少？", "计算 4.00 * 3.00 等于多少？"),
        ("求以下数据的平均值：[1, 22, 3]", "求以下数据的平均值：[22, 3, 1]"),
        (AREA.format(3, 4), AREA.format(4, 3)),
        (MASS, MASS.replace("6", "x").replace("7", "6").replace("x", "7")),
    ],
)
def test_twins(one: str, other: str) -> None:
    assert one != other
    assert SKILL.canonical_form(understood(one)) == SKILL.canonical_form(understood(other))


def test_what_is_no_twin() -> None:
    texts = [
        "计算 1.25 - 2.50 等于多少？",
        "计算 2.50 - 1.25 等于多少？",
        "计算 1.25 + 2.50 等于多少？",
        "计算 1.25 * 2.50 等于多少？",
        "计算 -1.25 + 2.50 等于多少？",
        "求以下数据的平均值：[1, 22]",
        "求以下数据的平均值：[12, 2]",
        "求以下数据的平均值：[1, 2, 2]",
    ]
    assert len({SKILL.canonical_form(understood(text)) for text in texts}) == len(texts)


def test_space_around_a_row_is_no_part_of_it() -> None:
    question = SKILL.parse(f" {ADD}\n", "")
    assert question is not None and question.text == ADD
    raw = SKILL.render_solution(question, "", "raw", Rounding())
    assert (
        SKILL.find_error(question, f"{raw}\n") is None
        and SKILL.render_solution(question, f"{raw}\n", "raw", Rounding()) == raw
    )
