"""Texts that differ only in spelling become one, and those that say something else do not."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.normalization import free_text_kinds, normalised, operands, template, words
from keeptune.skills.arithmetic.contest_corpus import ENGLISH, generate_corpus
from keeptune.skills.arithmetic.skill import Arithmetic

NUMBERS = st.decimals(-10_000, 10_000, allow_nan=False, places=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5.0", "5"),
        ("0.50", ".5"),
        ("1,000 apples", "1000 apples"),
        ("３＋４．５０", "3 + 4.5"),
        ("What is\n 3 + 4?", "what is 3+4"),
        ("计算 3.00 + 4.00 等于多少？", "计算3+4等于多少"),
        ("长为 87 厘米，宽为 4 厘米。", "长为 87 厘米 宽为 4 厘米"),
        ("a well-known 5-year-old", "A well known 5 year old"),
        ("x² − 2½", "x^2 - 2 1/2"),
        ("x⁻²", "x^-2"),
        ("costs $5$ dollars", "costs 5 dollars"),
        ("[3, 4]", "[3,4]"),
        ("Stop! Don’t.", "stop, don't"),
    ],
)
def test_other_spellings_of_one_text(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4", "3 - 4"),
        ("3 - 4", "3 - -4"),
        ("5!", "5"),
        ("(2 + 3) * 4", "2 + (3 * 4)"),
        ("x²", "x2"),
        ("2½", "21/2"),
        ("3，400", "3400"),
        ("5%", "5"),
        ("12 3", "1 23"),
        ("1.5", "15"),
        ("长", "宽"),
    ],
)
def test_other_texts(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text() | st.text("ab长宽0123456789.,-+!()（，。−½²５ $'\n\ue000\ue001\ue002", max_size=30))
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(st.text())
def test_words_are_parts_of_the_normalised_text(text: str) -> None:
    parts = iter(normalised(text).split())
    assert all(word in parts for word in words(text))


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_operands_are_the_numbers_that_were_written(numbers: list[Decimal]) -> None:
    assert operands("计算 " + " + ".join(map(str, numbers)) + " 等于多少？") == tuple(numbers)
    assert operands(f"Lists: [{', '.join(map(str, numbers))}].") == tuple(numbers)


def test_operands_of_the_problems_of_the_contest() -> None:
    assert operands("解方程 -81x + -45 = 0") == (-81, -45, 0)
    assert operands("当 x = 7.59 时，求函数 y = 68x^95 的值") == (Decimal("7.59"), 68, 95)
    assert operands("将分数 4/10 进行简化。") == (4, 10)
    assert operands("x-5 and -5, 3-4") == (5, -5, 3, 4)
    assert operands("none") == ()


def test_templates() -> None:
    assert template("求以下数据的平均值：[20, 12, 72]") == template("求以下数据的平均值：[1, -2]")
    assert template("计算 -1.50 + 2 等于多少？") == template("计算 3 + -4 等于多少？")
    assert template("计算 1 + 2 等于多少？") != template("计算 1 - 2 等于多少？")


def test_kinds_in_free_text() -> None:
    problems = [("add", "1 + 2"), ("add", "3.5 + -1"), ("word", "Ada has 3."), ("word", "Ben has 3."), ("one", "x")]
    assert free_text_kinds(problems) == {"word"}


def test_of_the_kinds_of_the_contest_only_english_is_free_text() -> None:
    skill = Arithmetic()
    questions = [skill.parse(row["problem"], row["solution"]) for row in generate_corpus(2000, 1)]
    problems = [(question.kind, question.text) for question in questions if question is not None]
    assert {kind for kind, _ in problems} == set(skill.kinds)
    assert free_text_kinds(problems) == {ENGLISH}
