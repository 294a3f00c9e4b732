"""Solutions in sentences: every digit of them is judged, and what they say about signs is true."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Question

SKILL = Arithmetic()
CHINESE_KINDS = SKILL.kinds[:-1]
TWO = Rounding()


def understood(problem: str) -> Question:
    question = SKILL.parse(problem, "")
    assert question is not None
    return question


def render_rule(problem: str, rounding: Rounding = TWO) -> str:
    return SKILL.render_solution(understood(problem), "", "rule", rounding)


def with_another_digit(text: str, generator: random.Random) -> str:
    place = generator.choice([place for place, character in enumerate(text) if character in "0123456789"])
    digit = (int(text[place]) + generator.randint(1, 9)) % 10
    return f"{text[:place]}{digit}{text[place + 1 :]}"


@pytest.mark.parametrize("kind", CHINESE_KINDS)
@pytest.mark.parametrize("rounding", [TWO, Rounding(1), Rounding(digits=4, halves="even")])
def test_rendered_solutions_hold_and_no_digit_can_change(kind: str, rounding: Rounding) -> None:
    generator = random.Random(f"{kind} {rounding}")
    for _ in range(300):
        question = understood(SKILL.generate(kind, generator)[0])
        solution = SKILL.render_solution(question, "", "rule", rounding)
        assert SKILL.verify_solution(question, solution, "rule", rounding) is None
        assert SKILL.verify_solution(question, with_another_digit(solution, generator), "rule", rounding) is not None
        assert "\n#### " in solution


PROBLEMS_WITH_ZEROS_AND_ONES = [
    *(
        f"计算 {a} {op} {b} 等于多少？"
        for op in "+-*"
        for a in ("0.00", "-0.00", "5.00")
        for b in ("0.00", "-5.00", "5.00")
    ),
    *(f"计算 {a} / {b} 等于多少？" for a in ("0.00", "-0.00", "5.00") for b in ("-5.00", "5.00")),
    *(f"计算 {a} 的 {n} 次方？" for a in ("1.00", "-1.00", "-2.50") for n in range(5)),
    *(f"计算 {a} 的 {n} 次方？" for a in ("0.00", "-0.00") for n in range(1, 4)),
    *(f"计算 {a} 的平方根？" for a in ("0.00", "1.00", "0.01")),
    *(f"解方程 {a}x + {b} = 0" for a in (1, -1, 7, -7) for b in (0, 7, -7, 1)),
    *(f"求以下数据的平均值：[{numbers}]" for numbers in ("5", "5, 5", "1, 1, 2")),
    "当 x = 1.00 时，求函数 y = 1x^1 的值",
    "当 x = 0.00 时，求函数 y = 3x^9 的值",
    "商品原价为 5 元，打折后的价格为 5 元，请计算打折的折扣比例。",
    "一个长方形的长为 999999999 厘米，宽为 999999999 厘米，请计算其面积。",
    "去年销售额为 999999999 万元，今年销售额增加了 999999999%，请计算今年的销售额。",
]


@pytest.mark.parametrize("problem", PROBLEMS_WITH_ZEROS_AND_ONES)
def test_zeros_ones_and_giants(problem: str) -> None:
    question = understood(problem)
    assert (
        SKILL.verify_solution(question, SKILL.render_solution(question, "", "longhand", TWO), "longhand", TWO) is None
    )
    solution = render_rule(problem)
    assert SKILL.verify_solution(question, solution, "rule", TWO) is None
    for seed in range(30):
        other = with_another_digit(solution, random.Random(seed))
        assert SKILL.verify_solution(question, other, "rule", TWO) is not None, other


@given(st.sampled_from(["sub", "mul", "div", "discount"]), st.integers())
def test_statements_about_the_sign_are_true(kind: str, seed: int) -> None:
    question = understood(SKILL.generate(kind, random.Random(seed))[0])
    assert isinstance(question.truth, Fraction)
    said = render_rule(question.text)
    name = {"sub": "差", "mul": "积", "div": "商", "discount": "折扣比例"}[kind]
    sign = "正数" if question.truth > 0 else "负数" if question.truth < 0 else "零"
    assert f"{name}为{sign}" in said


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        ("计算 -1.00 + -2.50 等于多少？", "-1.00 + -2.50 = -(1.00 + 2.50) = -3.5"),
        ("计算 1.00 - -2.50 等于多少？", "1.00 - -2.50 = 1.00 + 2.50 = 3.5"),
        ("计算 10.00 / -3.00 等于多少？", "10.00 / -3.00 ≈ -3.33"),
        ("计算 -2.50 的 2 次方？", "(-2.50)^2 = 6.25"),
        ("计算 2.00 的平方根？", "√2.00 ≈ 1.41"),
        ("解方程 -39x + 20 = 0", "-39x = -20"),
        ("将分数 4/10 进行简化。", "4 / 10 = 2 / 5\n#### 2/5"),
    ],
)
def test_statements(problem: str, lines: str) -> None:
    assert lines in render_rule(problem)


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("≈", "="),
        ("≈ -3.33", "≈ -3.333"),
        ("#### -3.33", "-3.33"),
        ("10.00 / -3.00", "20.00 / -6.00"),
        ("10.00 / -3.00 ≈", "10.00 / -3.00 = -10 / 3 ≈ -3.33 ≈"),
        ("10.00 / -3.00 ≈ -3.33", "商为 -3.33"),
        ("10.00 / -3.00", "10.00 -3.00"),
        ("10.00", "1 0.00"),
        ("10.00 / -3.00 ≈ -3.33", "10.00 / -3.00"),
        ("-3.33\n#", "1/0\n#"),
        ("#### -3.33", "#### -3.3333"),
    ],
)
def test_false_statements_are_refused(written: str, other: str) -> None:
    question = understood("计算 10.00 / -3.00 等于多少？")
    solution = render_rule(question.text)
    assert written in solution
    assert SKILL.verify_solution(question, solution, "rule", TWO) is None
    assert SKILL.verify_solution(question, solution.replace(written, other), "rule", TWO) is not None


@given(st.text("0123456789.+-*/^√xy() =≈\n，零#E", max_size=80))
def test_no_text_breaks_the_check(text: str) -> None:
    assert SKILL.verify_solution(understood("计算 10.00 / -3.00 等于多少？"), text, "rule", TWO) is not None


def test_english_is_as_in_longhand() -> None:
    stored = "So it is $\\boxed{18}$."
    question = SKILL.parse("How many?", stored)
    assert question is not None
    assert SKILL.render_solution(question, stored, "rule", TWO) == SKILL.render_solution(
        question, stored, "longhand", TWO
    )
