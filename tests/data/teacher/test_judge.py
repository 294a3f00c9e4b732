"""Wrong reasoning and paraphrases with another meaning are rejected with a reason."""

import random
from fractions import Fraction

import pytest

from keeptune.config.solution_format import Rounding
from keeptune.data.teacher.judge import (
    clean_answer,
    find_meaning_fault,
    find_numbers,
    find_paraphrase_fault,
    find_reasoning_fault,
    strip_quotes,
)
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Question

SKILL = Arithmetic()
AREA = "一个长方形的长为 87 厘米，宽为 45 厘米，请计算其面积。"
DIV = "计算 10.00 / 3.00 等于多少？"
SUB = "计算 9630.41 - -7979.46 等于多少？"
ENGLISH = "Tom has 12 apples and buys 3 more. How many apples has he now?"


def question(problem: str, solution: str = "") -> Question:
    parsed = SKILL.parse(problem, solution)
    assert parsed is not None
    return parsed


def reasoning(problem: str, text: str, answer: str) -> str | None:
    return find_reasoning_fault(text, question(problem, f"#### {answer}"), answer)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("87 * 45 = 3915\n#### 3915", None),
        ("87 * 45 = 3915\n#### 3915 平方厘米", None),
        ("80 * 45 = 3600\n7 * 45 = 315\n3600 + 315 = 3915\n#### 3,915", None),
        ("87 * 45 = 3916\n#### 3915", "wrong step"),
        ("80 * 45 = 3600\n7 * 45 = 316\n3600 + 315 = 3915\n#### 3915", "wrong step"),
        ("87 * 45 = 3915\n#### 3916", "wrong answer"),
        ("87 * 45 = 3915\n#### 3915.3", "wrong answer"),  # Within the grader's tolerance, but not exact.
        ("87 * 45 = 3915\n#### 3915 or 3916", "wrong answer"),
        ("87 * 45 = 3915\n#### 12 = 3915", "wrong answer"),
        ("87 * 45 = 3915", "no final answer on the last line"),
        ("87 * 45 = 3915\n#### 3915\nDone.", "no final answer on the last line"),
        ("#### 1\n87 * 45 = 3915\n#### 3915", "no final answer on the last line"),
        ("我知道。\n#### 3915", "no step"),
        ("87 groups of 45 = 3915\n#### 3915", "a step that cannot be read"),
        ("<think>87 * 45 = 3915\n#### 3915", "markup"),
        ("87 * 45 = 3915\n" * 2000 + "#### 3915", "too long"),
        ("", "no final answer on the last line"),
    ],
)
def test_reasoning(text: str, fault: str | None) -> None:
    assert reasoning(AREA, text, "3915") == fault


@pytest.mark.parametrize(
    ("final", "fault"),
    [("3.33", None), ("10/3", None), ("3.3333", "wrong answer"), ("3.3", "wrong answer"), ("3.34", "wrong answer")],
)
def test_a_final_answer_is_exact_or_rounded_as_the_recipe_says(final: str, fault: str | None) -> None:
    assert reasoning(DIV, f"10 / 3 ≈ 3.3333\n#### {final}", "3.33") == fault


def test_a_text_answer_must_be_equal() -> None:
    surd = Question("english", "Simplify $\\sqrt{12} + 1 * 3$.", "2\\sqrt{3}+3")
    assert find_reasoning_fault("4 * 3 = 12\n#### 2\\sqrt{3}+3", surd, "2\\sqrt{3}+3") is None
    assert find_reasoning_fault("4 * 3 = 12\n#### 3\\sqrt{2}+3", surd, "2\\sqrt{3}+3") == "wrong answer"


def test_rendered_solutions_of_plain_arithmetic_are_proven() -> None:
    generator = random.Random(3)
    for kind in ("area", "mass", "sales"):
        problem, raw = SKILL.generate(kind, generator)
        parsed = question(problem, raw)
        *steps, last = SKILL.render_solution(parsed, raw, "longhand", Rounding()).split("\n")
        answer = last.removeprefix("#### ")
        assert find_reasoning_fault("\n".join([*steps, last]), parsed, answer) is None
        assert find_reasoning_fault("\n".join([*steps, "1 + 1 = 3", last]), parsed, answer) == "wrong step"


def test_thinking_and_trailing_white_space_are_removed() -> None:
    assert clean_answer("<think>\nWell, 1 = 2\n</think>\n\n1 + 1 = 2  \r\n#### 2\n") == "1 + 1 = 2\n#### 2"


@pytest.mark.parametrize(
    ("problem", "text", "fault"),
    [
        (AREA, "请问一个长 87 厘米、宽 45 厘米的长方形，面积是多少？", None),
        (AREA, AREA, "not in other words"),
        (AREA, AREA.replace("，", ", ").replace("。", "."), "not in other words"),
        (AREA, "请问一个宽 45 厘米、长 87 厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问一个长 87 厘米、宽 46 厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问一个长 87 厘米、宽 45 厘米的长方形，面积 3915 吗？", "other numbers"),
        (AREA, "请问一个长 87.0 厘米、宽 45 厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问一个长 87 厘米、宽 -45 厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问一个长八十七厘米、宽四十五厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问一个长 ８７ 厘米、宽 ４５ 厘米的长方形，面积是多少？", "other numbers"),
        (AREA, "请问两个长 87 厘米、宽 45 厘米的长方形，面积是多少？", "numbers in other digits"),
        (AREA, "请问一个长 87 厘米、宽 45 厘米的长方形，面积是多少 m²？", "numbers in other digits"),
        (AREA, "A rectangle is 87 厘米 long and 45 厘米 wide; what is its area?", "another language"),
        (AREA, "What is the area of a rectangle of 87 cm by 45 cm?", "another language"),
        (AREA, "87 乘 45？", "too short or too long"),
        (AREA, AREA * 3, "too short or too long"),
        (AREA, "请问一个长 87 厘米、宽 45 厘米的长方形，面积是多少？####", "markup"),
        (SUB, "请算出 9630.41 - -7979.46 的结果。", None),
        (SUB, "请算出 9630.41 - 7979.46 的结果。", "other numbers"),
        (SUB, "请算出 9630.41 - -7979.4 的结果。", "other numbers"),
        (ENGLISH, "After buying 3 more apples, Tom, who had 12, has how many?", "other numbers"),
        (ENGLISH, "Tom owns 12 apples. When he gets 3 more, how many are there?", None),
        (ENGLISH, "汤姆有 12 个苹果，又买了 3 个，现在他一共有多少个苹果？请计算。", "another language"),
    ],
)
def test_paraphrases(problem: str, text: str, fault: str | None) -> None:
    assert find_paraphrase_fault(text, question(problem, "#### 15")) == fault


@pytest.mark.parametrize(
    ("formula", "truth", "fault"),
    [
        ("87 * 45", Fraction(3915), None),
        ("87 + 45", Fraction(3915), "another meaning"),
        ("2 * (87 + 45) = 264", Fraction(264), None),
        ("The calculation is:\n87 × 45", Fraction(3915), None),
        ("`9630.41 - (-7979.46)`", Fraction("17609.87"), None),
        ("10 / 3", Fraction(10, 3), None),
        ("10 / 3", Fraction("3.33"), "another meaning"),
        ("I cannot say.", Fraction(3), "another meaning"),
        ("", Fraction(3), "another meaning"),
        ("3", "3x", "another meaning"),
    ],
)
def test_a_paraphrase_must_lead_to_the_same_answer(formula: str, truth: Fraction | str, fault: str | None) -> None:
    assert find_meaning_fault(formula, truth) == fault


def test_roots_and_powers_of_the_data_set_are_evaluated_exactly() -> None:
    assert find_meaning_fault("sqrt(5636.97)", question("计算 5636.97 的平方根？").truth) is None
    assert find_meaning_fault("(-833.12)^2", question("计算 -833.12 的 2 次方？").truth) is None
    assert find_meaning_fault("68 * 7.59^95", question("当 x = 7.59 时，求函数 y = 68x^95 的值").truth) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SUB, ["9630.41", "-7979.46"]),
        ("5 - 3", ["5", "3"]),
        ("5-3", ["5", "3"]),
        ("[20, 12]", ["20", "12"]),
        ("解方程 -81x + -45 = 0", ["-81", "-45", "0"]),
        ("1,250.5 km", ["1,250.5"]),
        ("长为-3.", ["-3"]),
        ("３ 三 x", []),
    ],
)
def test_numbers_are_found_with_their_signs(text: str, expected: list[str]) -> None:
    assert find_numbers(text) == expected


def test_quotation_marks_around_a_whole_text_are_removed() -> None:
    assert strip_quotes("“3 and 4?”") == "3 and 4?"
    assert strip_quotes("He said “3”") == "He said “3”"
