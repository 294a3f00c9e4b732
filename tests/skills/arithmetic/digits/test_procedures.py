"""Work digit by digit: its layout, and that it is right for every problem of every kind."""

import random
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding
from keeptune.skills.arithmetic.digits import check, procedures
from keeptune.skills.arithmetic.digits.procedures import DigitSolution
from keeptune.skills.arithmetic.kind import DigitKind
from keeptune.skills.arithmetic.kinds import KINDS
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Question

SKILL = Arithmetic()
WORKED = tuple(kind for kind in KINDS if isinstance(kind, DigitKind))

MANY = 100_000


def question(text: str) -> Question:
    read = SKILL.parse(text, "")
    assert read is not None
    return read


def written(text: str) -> str:
    return SKILL.render_solution(question(text), "", "digits", Rounding())


def fault(text: str, solution: str) -> str | None:
    truth = question(text).truth
    assert not isinstance(truth, str)
    return check.find_error(solution, text, truth)


def lines(worked: DigitSolution) -> list[str]:
    return [*worked.lines, worked.answer]


def test_a_sum_in_columns() -> None:
    assert lines(procedures.addition(Decimal("7860.75"), Decimal("12.05"))) == [
        "+ + +",
        "a70b80c61d02e70f55",
        "f5+5=10+0=10e7+0=07+1=08d0+2=02+0=02c6+1=07+0=07b8+0=08+0=08a7+0=07+0=07",
        "0a7b8c7d2.e8f0",
        "7872.80",
    ]


def test_a_difference_below_zero_is_listed_once_more() -> None:
    assert lines(procedures.addition(Decimal("-0.04"), Decimal("5.84"))) == [
        "- + -",
        "a00b00c00d05e08f44",
        "f4-4=00-0=00e0-8=12-0=12d0-5=15-1=14c0-0=00-1=19b0-0=00-1=19a0-0=00-1=19",
        "a9b9c9d4.e2f0",
        "a0b0c0d5.e8f0",
        "5.80",
    ]


def test_a_mass_is_worked_as_an_area_is() -> None:
    text = "某物体的密度为 5 克/立方厘米，体积为 10 立方厘米，请计算该物体的质量。"
    assert written(text).split("\n") == ["a5", "u1v0", "v0a0", "u1a505+0=05+0=05", "0a5v0", "#### 50"]


def test_numbers_of_every_size_are_drawn_where_most_are_long() -> None:
    by_name = {kind.name: kind for kind in WORKED}
    for name in ("area", "sales", "discount", "equation"):
        generator = random.Random(0)
        drawn = [by_name[name].sample_any_length(generator) for _ in range(600)]
        sizes = Counter(
            len(number) for one in drawn for number in re.findall("[0-9]+", by_name[name].render_problem(one))
        )
        assert all(sizes[size] > 300 for size in (1, 2, 3)), sizes


def test_a_product_line_by_line() -> None:
    assert lines(procedures.area(54, 34)) == [
        "a5b4",
        "u3v4",
        "v4b416+0=16+0=16a520+1=21+0=21",
        "u3b412+0=12+1=13a515+1=16+2=18",
        "1a8b3v6",
        "1836",
    ]


@pytest.mark.parametrize(
    ("left", "right", "point", "listed", "answer"),
    [
        ("-12.46", "9827.49", "2+4=6e", "1a2b2c4d5e0.f4g6=6", "-122450.46"),
        ("2.50", "3.10", "1+1=2a", "0a7.b7c5d0e0f0g0=1", "7.750000"),
        ("0.02", "30.00", "-1+2=1.", "0.a6b0c0d0e0f0g0=0", "0.6000000"),
        ("9465.44", "8822.36", "4+4=8g", "8a3b5c0d6e8f8g0.=8", "83506880"),
    ],
)
def test_a_product_states_the_place_of_its_point_before_and_after_its_lines(
    left: str, right: str, point: str, listed: str, answer: str
) -> None:
    steps = lines(procedures.multiplication(Decimal(left), Decimal(right)))
    assert (steps[3], *steps[-3:]) == (point, point.partition("=")[2], listed, answer)


def test_a_power_too_large_for_a_point_says_its_exponent() -> None:
    steps = lines(procedures.power(Decimal("491.30"), 4))
    assert [line for line in steps if "E" in line] == ["6+6=12E", "12E", "0a5b8c2d6e1f9g5=11E10", "5.826195E+10"]


def test_a_quotient_and_trials_that_are_one_off() -> None:
    assert lines(procedures.division(Decimal("5399.16"), Decimal("5999.80")))[3:7] == [
        "053/59=1:f000+0=00,6-0=06e808+0=08,1-8=13d909+1=10,9-0=09c909+1=10,9-0=09b909+1=10,3-0=03a505+1=06,5-6=19,0-1=-",
        "0+f6+0=06+0=06e3+8=11+0=11d9+9=18+1=19c9+9=18+1=19b3+9=12+1=13a9+5=14+1=15",
        "0. 539/59=9:e872+0=72,6-2=04d981+7=88,1-8=13c981+9=90,9-0=09b981+9=90,9-0=09a545+9=54,3-4=19,5-6=-",
        "8+e4+8=12+0=12d3+9=12+1=13c9+9=18+1=19b9+9=18+1=19a9+5=14+1=15",
    ]
    assert lines(procedures.equation(17, -93))[3:6] == [
        "093/17=4:b728+0=28,3-8=15a104+3=07,9-7=02,0-0=025,17>",
        "5-b5-7=18-0=18a2-1=01-1=00",
        "5. 080/17=4:b728+0=28,0-8=12a104+3=07,8-7=01,0-0=012,17<",
    ]


def test_no_end_of_a_trial_is_rare() -> None:
    """A model that hardly ever sees `>` writes `<` without looking."""
    generator = random.Random(0)
    quotients = (
        procedures.division(Decimal(generator.randint(1, 999_999)) / 100, Decimal(generator.randint(1, 999_999)) / 100)
        for _ in range(200)
    )
    ends = Counter(line[-1] for worked in quotients for line in worked.lines if "/" in line)
    assert ends[">"] > ends.total() // 8
    assert ends["-"] > ends.total() // 16


def test_a_mean_adds_tens_and_ones_apart() -> None:
    assert lines(procedures.mean((59, 33, 63))) == [
        "1:59:0+5=5,0+9=9 2:33:5+3=8,9+3=12 3:63:8+6=14,12+3=15",
        "14+1=15",
        "155",
        "1-0*3=1-0=1,3<",
        "0 15-4*3=15-12=3,3>",
        "4+1=5:15-5*3=15-15=0,3<",
        "5 5-1*3=5-3=2,3<",
        "51. 20-6*3=20-18=2,3<",
        "51.6 20-5*3=20-15=5,3>",
        "5+1=6:20-6*3=20-18=2,3<",
        "51.66 20-6*3=20-18=2,3<",
        "51.666",
    ]


def test_three_digits_of_a_root_are_found_one_by_one() -> None:
    steps = lines(procedures.square_root(Decimal("4080.17")))
    assert steps[:11] == [
        "4080.17",
        "40-6*6=40-36=04",
        "048/12=2:c204+0=04,0-4=16b204+1=05,8-5=03a102+0=02,4-2=02,0-0=0236",
        "62+62=0124,0236:1,2>",
        "2+1=3:c309+0=09,0-9=11b206+1=07,8-7=01a103+0=03,4-3=01,0-0=0111",
        "63+63=0126,0111:2,1<",
        "111/12=7:d749+0=49,7-9=18c642+5=47,1-7=14b214+5=19,1-9=12a107+2=09,1-9=12,1-1=02248",
        "637+637=01274,02248:1,2>",
        "7+1=8:d864+0=64,7-4=03c648+6=54,1-4=17b216+6=22,1-2=19a108+3=11,1-1=00,1-1=00973",
        "638+638=01276,00973:1,0<",
        "a01b92c77d36",
    ]
    assert steps[-2:] == ["63.8+0.076=63.876", "63.876"]
    close_to_ten = lines(procedures.square_root(Decimal("100.00")))
    assert close_to_ten[1:4] == ["01-1*1=01-01=00", "000/02=0:c0b0a0,0000", "10+10=0020,0000:2,0<"]


def test_the_remainder_may_be_twice_the_root() -> None:
    assert "97+97=0194,0194:<" in lines(procedures.square_root(Decimal("9603.47")))


def test_a_digit_too_large_for_a_root_leaves_less_than_nothing() -> None:
    steps = lines(procedures.square_root(Decimal("492.56")))
    first = next(place for place, line in enumerate(steps) if line.startswith("085/44="))
    assert steps[first].endswith(",0-1=-")
    assert steps[first + 1].startswith("2-1=1:c101+0=01")


def test_a_power_says_which_exponents_are_still_to_come() -> None:
    steps = [line for line in lines(procedures.power(Decimal("2.00"), 13)) if ":" in line]
    assert steps[:3] == ["13-1:12,13", "12:1-0*2=1,12-6*2=0:6,12,13", "6:3,6,12,13"]
    assert steps[3:5] == ["3-1:2,3,6,12,13", "2:1,2,3,6,12,13"]
    assert steps[5:] == ["2,3,6,12,13:1+1=2", "3,6,12,13:2+1=3", "6,12,13:3+3=6", "12,13:6+6=12", "13:12+1=13"]


def test_a_function_is_a_power_and_a_product() -> None:
    steps = lines(procedures.function(Decimal("0.39"), 68, 22))
    assert steps[:3] == ["68*0.39^22", "22:2-1*2=0,2-1*2=0:11,22", "11-1:10,11,22"]
    assert steps[steps.index("68") + 3] == "-8+2=-6."
    assert steps[-1] == "0.000000068537780"


def test_places_of_two_digits_are_added_digit_by_digit() -> None:
    def places(x: str, coefficient: int, exponent: int) -> list[str]:
        steps = lines(procedures.function(Decimal(x), coefficient, exponent))
        return [line for line in steps if re.fullmatch(r"[-0-9+]+[:=][-0-9+=,:]+[a-z.E]", line)]

    assert places("9.09", 100, 45)[-4:] == [
        "11+11:1+1=2,10+10=20:20+2=22E",
        "22+22:2+2=4,20+20=40:40+4=44E",
        "43+1:3+1=4,40+0=40:40+4=44E",
        "44+3:4+3=7,40+0=40:40+7=47E",
    ]
    assert places("0.05", 7, 42)[-4:-2] == [
        "-13+-13:-3+-3=-6,-10+-10=-20:-20-6=-26E",
        "-26+-1:-6+-1=-7,-20+0=-20:-20-7=-27E",
    ]
    assert places("0.05", 7, 42)[-2:] == [
        "-27+-27:-7+-7=-14,-20+-20=-40:-40-14=-54E",
        "-54+1:-4+1=-3,-50+0=-50:-50-3=-53E",
    ]


def test_functions_keep_as_many_digits_as_they_need() -> None:
    """The largest exponent, where most is lost, with numbers whose digits lose much."""
    generator = random.Random(3)
    for _ in range(300):
        text = f"当 x = {generator.randint(1, 1000) / 100:.2f} 时，求函数 y = {generator.randint(1, 100)}x^99 的值"
        assert fault(text, written(text)) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("计算 0.00 * -5.00 等于多少？", "0"),
        ("计算 0.00 / -5.00 等于多少？", "0"),
        ("计算 5.00 + -5.00 等于多少？", "0.00"),
        ("计算 5.00 / 7.00 等于多少？", "0.714"),
        ("计算 0.01 / 9999.99 等于多少？", "0.00000"),
        ("计算 -12.50 的 0 次方？", "1"),
        ("计算 -12.50 的 1 次方？", "-12.50"),
        ("计算 0.00 的 3 次方？", "0"),
        ("计算 183.94 的 5 次方？", "2.105595E+11"),
        ("计算 0.00 的平方根？", "0"),
        ("计算 10000.00 的平方根？", "100"),
        ("计算 5636.97 的平方根？", "75.079"),
        ("解方程 -6x + 0 = 0", "0"),
        ("解方程 1x + -100 = 0", "100.000"),
        ("当 x = 0.00 时，求函数 y = 5x^2 的值", "0"),
        ("当 x = 7.59 时，求函数 y = 3x^1 的值", "22.7700000"),
        ("当 x = 7.59 时，求函数 y = 68x^95 的值", "2.85413370E+85"),
        ("当 x = 0.39 时，求函数 y = 4x^69 的值", "2.42949300E-28"),
        ("商品原价为 16 元，打折后的价格为 90 元，请计算打折的折扣比例。", "-462.500"),
        ("去年销售额为 12 万元，今年销售额增加了 77%，请计算今年的销售额。", "21.24"),
    ],
)
def test_answers_at_the_edges(text: str, answer: str) -> None:
    solution = written(text)
    assert solution.endswith(f"#### {answer}")
    assert fault(text, solution) is None


@given(
    st.sampled_from(WORKED), st.integers(0, 2**64), st.sampled_from(["sample", "sample_any_length", "sample_near_tie"])
)
def test_every_line_and_every_answer_holds(kind: DigitKind[Any], seed: int, draw: str) -> None:
    assert_proven(kind.render_problem(getattr(kind, draw)(random.Random(seed))))


def assert_proven(text: str) -> None:
    """By the judge of the style it is written in: the few problems that a kind refuses by digits are in long-hand."""
    assert SKILL.verify_solution(question(text), written(text), "digits", Rounding()) is None


amounts = st.integers(-(10**11), 10**11).map(lambda units: f"{Decimal(units).scaleb(-2):.2f}")


@given(amounts, amounts, st.sampled_from("+-*/"))
@example("18945.38", "9.00", "/")
def test_numbers_longer_than_the_data_set_has(left: str, right: str, operation: str) -> None:
    text = f"计算 {left} {operation} {right} 等于多少？"
    if SKILL.parse(text, "") is not None:
        assert_proven(text)


@given(amounts, st.integers(0, 200))
def test_powers_beyond_the_data_set(base: str, exponent: int) -> None:
    text = f"计算 {base} 的 {exponent} 次方？"
    if SKILL.parse(text, "") is not None:
        assert_proven(text)


@given(st.integers(0, 10**5), st.integers(1, 10**4), st.integers(1, 120))
def test_functions_beyond_the_data_set(hundredths: int, coefficient: int, exponent: int) -> None:
    text = f"当 x = {hundredths / 100:.2f} 时，求函数 y = {coefficient}x^{exponent} 的值"
    if SKILL.parse(text, "") is not None:
        assert_proven(text)


@pytest.mark.parametrize("rounding", [Rounding(), Rounding(places=0), Rounding(digits=3)])
@pytest.mark.parametrize(
    "text",
    [
        "将分数 4/10 进行简化。",
        "计算 11471.86 的平方根？",
        "当 x = 1.23 时，求函数 y = 5x^101 的值",
        "计算 -12.50 的 101 次方？",
    ],
)
def test_problems_beyond_the_procedures_use_longhand(text: str, rounding: Rounding) -> None:
    asked = question(text)
    solution = SKILL.render_solution(asked, "", "digits", rounding)
    assert solution == SKILL.render_solution(asked, "", "longhand", rounding)
    assert SKILL.verify_solution(asked, solution, "digits", rounding) is None
    assert SKILL.verify_solution(asked, solution.replace("#### ", "#### 9"), "digits", rounding) is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORKED, ids=lambda kind: kind.name)
def test_a_hundred_thousand_problems_of_each_kind(kind: DigitKind[Any]) -> None:
    generator = random.Random(2026)
    for _ in range(MANY):
        text = kind.render_problem(kind.sample(generator))
        assert fault(text, written(text)) is None, text
