"""A problem of the data set in another spelling is the same problem; a text that only resembles one is none."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.kinds import KINDS, find_kind
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.arithmetic.variants import MAX_CHARACTERS, standard_text

FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
HALF_WIDTH = str.maketrans("？，。：", "?,.:")
SPELLINGS = {
    "ascii punctuation": lambda text: text.translate(HALF_WIDTH),
    "full width": lambda text: text.translate(FULL_WIDTH),
    "no spaces": lambda text: text.replace(" ", ""),
    "more spaces": lambda text: text.replace(" ", " \u3000\t"),
    "signs": lambda text: text.replace("*", "×").replace(" / ", " ÷ ").replace("-", "−"),
    "no mark": lambda text: text.rstrip("？。"),
    "all": lambda text: text.translate(HALF_WIDTH).translate(FULL_WIDTH).replace(" ", "").replace("＊", "×"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
@given(seed=st.integers(0, 10**6))
def test_a_variant_is_the_same_problem(kind: object, spelling: str, seed: int) -> None:
    text = kind.render_problem(kind.sample(random.Random(seed)))  # type: ignore[attr-defined]
    assert standard_text(SPELLINGS[spelling](text)) == text


@pytest.mark.parametrize(
    ("variant", "standard"),
    [
        ("计算 3 × 4.5 等于多少?", "计算 3.00 * 4.50 等于多少？"),
        ("计算７÷２等于多少", "计算 7.00 / 2.00 等于多少？"),
        ("解方程3x-45=0", "解方程 3x + -45 = 0"),
        ("解方程 -3x − 45 = 0。", "解方程 -3x + -45 = 0"),
        ("计算 2 的 3 次方?", "计算 2.00 的 3 次方？"),
        ("求以下数据的平均值:[1,2 , 30]", "求以下数据的平均值：[1, 2, 30]"),
        ("将分数4/10进行简化.", "将分数 4/10 进行简化。"),
    ],
)
def test_spellings_of_people(variant: str, standard: str) -> None:
    question = Arithmetic().parse(variant, "")
    assert question is not None
    assert question.text == standard
    assert question == Arithmetic().parse(standard, "")


@pytest.mark.parametrize(
    "text",
    [
        "计算 3 + 4 + 5 等于多少？",
        "计算 3.123 + 4 等于多少？",
        "计算 03 + 4 等于多少？",
        "请计算 3 + 4 等于多少？",
        "解方程 3x + 4 = 5",
        "解方程 3y + 4 = 0",
        "计算 2 的 1000 次方？",
        "计算 1 ÷ 0 等于多少？",
        "计算 3 + 4 等于几？",
        "计算 " + "1" * MAX_CHARACTERS + " + 1 等于多少？",
    ],
)
def test_texts_that_only_resemble_a_problem(text: str) -> None:
    assert Arithmetic().parse(text, "") is None


@given(st.text(max_size=60))
def test_any_text_is_a_known_problem_or_none(text: str) -> None:
    standard = standard_text(text)
    assert standard is None or standard == standard_text(standard)


def test_every_standard_text_stays_as_it_is() -> None:
    generator = random.Random(0)
    for kind in KINDS:
        text = kind.render_problem(kind.sample(generator))
        assert find_kind(text) is not None
        assert standard_text(text) == text
