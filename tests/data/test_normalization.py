"""Texts that differ only in spelling are normalized to one text; texts with other content are not."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.normalization import extract_numbers, find_free_text_kinds, mask_numbers, normalize, split_words
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
def test_spellings_of_one_text_are_equal(one: str, other: str) -> None:
    assert normalize(one) == normalize(other)


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
def test_different_texts_are_not_equal(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


@given(st.text() | st.text("ab长宽0123456789.,-+!()（，。−½²５ $'\n\ue000\ue001\ue002", max_size=30))
def test_normalization_is_idempotent(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text())
def test_words_are_tokens_of_the_normalized_text(text: str) -> None:
    parts = iter(normalize(text).split())
    assert all(word in parts for word in split_words(text))


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_numbers_are_extracted_as_written(numbers: list[Decimal]) -> None:
    assert extract_numbers("计算 " + " + ".join(map(str, numbers)) + " 等于多少？") == tuple(numbers)
    assert extract_numbers(f"Lists: [{', '.join(map(str, numbers))}].") == tuple(numbers)


def test_numbers_of_the_contest_problems() -> None:
    assert extract_numbers("解方程 -81x + -45 = 0") == (-81, -45, 0)
    assert extract_numbers("当 x = 7.59 时，求函数 y = 68x^95 的值") == (Decimal("7.59"), 68, 95)
    assert extract_numbers("将分数 4/10 进行简化。") == (4, 10)
    assert extract_numbers("x-5 and -5, 3-4") == (5, -5, 3, 4)
    assert extract_numbers("none") == ()


def test_masked_numbers() -> None:
    assert mask_numbers("求以下数据的平均值：[20, 12, 72]") == mask_numbers("求以下数据的平均值：[1, -2]")
    assert mask_numbers("计算 -1.50 + 2 等于多少？") == mask_numbers("计算 3 + -4 等于多少？")
    assert mask_numbers("计算 1 + 2 等于多少？") != mask_numbers("计算 1 - 2 等于多少？")


def test_free_text_kinds() -> None:
    problems = [("add", "1 + 2"), ("add", "3.5 + -1"), ("word", "Ada has 3."), ("word", "Ben has 3."), ("one", "x")]
    assert find_free_text_kinds(problems) == {"word"}


def test_english_is_the_only_free_text_kind_of_the_contest() -> None:
    skill = Arithmetic()
    questions = [skill.parse(row["problem"], row["solution"]) for row in generate_corpus(2000, 1)]
    problems = [(question.kind, question.text) for question in questions if question is not None]
    assert {kind for kind, _ in problems} == set(skill.kinds)
    assert find_free_text_kinds(problems) == {ENGLISH}
