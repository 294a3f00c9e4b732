import json
import os
import re
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from cpu_time import bounded_work
from hypothesis import given
from hypothesis import strategies as st

from keeptune.grading.number import HEADLINE, POLICIES, Policy, Source, find_final_answer, grade, parse_number

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))

decimals = st.decimals(min_value=-(10**30), max_value=10**30, places=12, allow_nan=False)


def passed(output: str, truth: Fraction | str) -> set[Policy]:
    return {policy for policy, right in grade(output, truth).verdicts.items() if right}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", "-5"),
        ("+5", "5"),
        ("- 5", "-5"),
        ("−5", "-5"),
        ("-0.0", "0"),
        (".5", "1/2"),
        ("5.", "5"),
        ("5。", "5"),
        ("5716.00", "5716"),
        ("1,234.50", "2469/2"),
        ("-1,234,567", "-1234567"),
        ("$1{,}234$", "1234"),
        ("１２．５", "25/2"),
        ("－３", "-3"),
        ("1.2E+34", "12" + "0" * 33),
        ("2.5e-3", "1/400"),
        ("1.2×10^5", "120000"),
        ("1.2×10⁵", "120000"),
        ("-1.2 x 10^{-1}", "-3/25"),
        (r"1.2\times 10^{5}", "120000"),
        ("1.2*10**5", "120000"),
        ("10^5", "100000"),
        ("60%", "60"),
        ("60％", "60"),
        (r"60\%", "60"),
        ("2/5", "2/5"),
        ("-2/5", "-2/5"),
        ("2 1/2", "5/2"),
        (r"\frac{2}{5}", "2/5"),
        (r"-\dfrac{2}{5}", "-2/5"),
        (r"\frac{-2}{5}", "-2/5"),
        (r"\tfrac12", "1/2"),
        (r"-2\frac{1}{2}", "-5/2"),
        (r"\(5\)", "5"),
        ("$5", "5"),
        ("-$5.50", "-11/2"),
        ("¥5", "5"),
        ("30 克", "30"),
        ("348 平方厘米", "348"),
        ("30 克/立方厘米", "30"),
        ("21.24 万元", "531/25"),
        ("5 cm^2", "5"),
        ("5 cm²", "5"),
        (r"5\ \text{cm}^2", "5"),
        ("3 m/s", "3"),
        (r"90^\circ", "90"),
        ("18 eggs per day.", "18"),
        ("**18**", "18"),
        ("x = -0.51", "-51/100"),
        ("3 + 4 = 7", "7"),
        ("答案：5。", "5"),
        ("1e400", "1" + "0" * 400),
    ],
)
def test_reads_one_number(text: str, value: str) -> None:
    assert parse_number(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "abc",
        "--5",
        "5, 6",
        "1,23",
        "1,2345",
        "0,123",
        "1，234",
        "1.2.3",
        "1 2",
        "3 4/0",
        "5/0",
        r"\frac{5}{0}",
        "1/2/3",
        "12:30",
        "5e",
        "5x",
        "57x^54",
        "3π",
        r"5\pi",
        r"5\sqrt{3}",
        "20 minus 3",
        "5 million",
        "5 万",
        "½",
        "2½",
        "٣",
        "x₂",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "__import__('os')",
    ],
)
def test_refuses_what_is_not_one_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize("text", ["1e401", "1e-401", "1e999999999999", "1×10^99999999", "9" * 401])
def test_the_size_of_numbers_is_limited(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize("piece", ["1", "1,", "1,111", "1 ", "-", "1/", r"\frac{1}{1", "1e", r"\boxed{", "####", "="])
def test_grades_a_runaway_output_at_once(piece: str) -> None:
    with bounded_work():
        assert "exact" not in passed(piece * 50_000, Fraction(7, 3))
        assert passed(f"#### 1{piece * 100}!", r"\pi") == set()


@given(decimals)
def test_reads_every_decimal_exactly(value: Decimal) -> None:
    assert parse_number(f"{value:f}") == parse_number(f"{value:,f}") == parse_number(f"{value:E}") == Fraction(value)


@given(st.integers(-(10**50), 10**50), st.integers(1, 10**50))
def test_reads_every_fraction_exactly(numerator: int, denominator: int) -> None:
    value = Fraction(numerator, denominator)
    assert parse_number(f"{numerator}/{denominator}") == value
    assert parse_number(rf"\frac{{{numerator}}}{{{denominator}}}") == value


@pytest.mark.parametrize(("output", "correct"), [("#### 2/5", True), ("#### 4/10", False), ("#### 0.4", True)])
def test_a_fraction_problem_asks_for_lowest_terms(output: str, correct: bool) -> None:
    assert grade(output, Fraction(2, 5), "fraction").correct is correct
    assert grade(output, Fraction(2, 5), "english").correct


@given(st.text(alphabet=st.sampled_from("0123456789+-.,/eE×^{}\\ $%=:x¥克万#frac\n") | st.characters(), max_size=60))
def test_grades_any_text_without_an_error(text: str) -> None:
    graded = grade(text, Fraction(7, 3))
    assert (graded.answer is None) == (graded.source is None)
    assert not graded.correct or graded.value is not None


@pytest.mark.parametrize(
    ("output", "answer", "source"),
    [
        ("1 + 1 = 2\n#### 3", "3", "marker"),
        ("#### 3\nso it is 4", "3", "marker"),
        ("#### 3\n#### 4 \n", "4", "marker"),
        (r"\boxed{5} #### 3", "3", "marker"),
        ("#### none", "none", "marker"),
        (r"first \boxed{4}, then \boxed{\frac{1}{16}}.", r"\frac{1}{16}", "boxed"),
        ("the last 8 was\n####", "8", "last_number"),
        (r"\boxed{} 8", "8", "last_number"),
        ("4204.22 + -2369.17 = 1835.05", "1835.05", "last_number"),
        ("so 7-5", "5", "last_number"),
        ("得-5。", "-5", "last_number"),
        ("约 -1,234.5 元", "-1,234.5", "last_number"),
        ("函数的值为：2.85E+85", "2.85E+85", "last_number"),
        ("about 1.2×10⁵.", "1.2×10^5", "last_number"),
        ("最简化的形式为：2/5", "2/5", "last_number"),
        (r"it is $2\frac{1}{2}$", r"2\frac{1}{2}", "last_number"),
        ("348 cm^2, that is 348 cm2 of x^{12}", "348", "last_number"),
        ("[20, 12，72]", "72", "last_number"),
    ],
)
def test_finds_the_answer(output: str, answer: str, source: Source) -> None:
    assert find_final_answer(output) == (answer, source)


@pytest.mark.parametrize("output", ["", " \n", "####", "I do not know."])
def test_an_output_without_an_answer_is_wrong_under_every_policy(output: str) -> None:
    graded = grade(output, Fraction(0))
    assert (graded.answer, graded.value, graded.source) == (None, None, None)
    assert graded.verdicts == dict.fromkeys(POLICIES, False)


def test_only_the_completion_is_graded() -> None:
    prompt, completion = "计算 3 + 4 等于多少？", ""
    assert grade(prompt + completion, Fraction(4)).correct
    assert not grade(completion, Fraction(4)).correct


def test_a_marked_answer_that_is_no_number_does_not_fall_back_to_one() -> None:
    graded = grade("it is 5\n#### five", Fraction(5))
    assert (graded.answer, graded.value, graded.source, graded.correct) == ("five", None, "marker", False)


def test_the_headline_holds_at_its_very_edge() -> None:
    assert HEADLINE == "2d4s"
    assert grade("#### 0.005", Fraction(0)).correct
    assert not grade("#### 0.00500000000000000000000001", Fraction(0)).correct
    assert grade("#### 49.995", Fraction(50)).correct
    assert not grade("#### 49.99499999999999999999999", Fraction(50)).correct
    assert grade("#### -1000100", Fraction(-(10**6))).correct
    assert not grade("#### -1000100.0000000000000000001", Fraction(-(10**6))).correct
    assert grade("#### 1.0001E+34", Fraction(10**34)).correct
    assert not grade("#### 1.00010000000000000000000000001E+34", Fraction(10**34)).correct


def test_the_other_tolerances_hold_at_their_edges() -> None:
    assert "relative_1pct" in passed("#### 101", Fraction(100))
    assert "relative_1pct" not in passed("#### 101.0000000000000000001", Fraction(100))
    assert "relative_1pct" not in passed("#### 0.001", Fraction(0))
    assert "isclose_1e-2" in passed("#### 1000.02", Fraction(1000))
    assert "isclose_1e-2" not in passed("#### 1000.0200000000000000001", Fraction(1000))


TWO_LAST = {"rounded_as_given", "relative_1pct"}


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("0.5128205128205128", "20/39", {"2d4s", "rounded_as_given", "relative_1pct", "isclose_1e-2"}),
        ("0.51", "20/39", {"2d4s", "rounded_as_given", "relative_1pct", "isclose_1e-2"}),
        ("0.5", "20/39", {"rounded_as_given"}),
        ("0.52", "20/39", {"isclose_1e-2"}),
        ("20/39", "20/39", set(POLICIES)),
        ("-0.0", "0", set(POLICIES)),
        ("2.50", "5/2", set(POLICIES)),
        ("0", "1/1000", {"2d4s", "isclose_1e-2"}),
        ("2.854E+85", "28541554483" + "0" * 75, {"2d4s", "rounded_as_given", "relative_1pct"}),
        ("2.85E+85", "28541554483" + "0" * 75, TWO_LAST),
        ("2.854155E+85", "28541554483" + "0" * 75, {"2d4s", "rounded_as_given", "relative_1pct", "isclose_1e-2"}),
        ("2.86E+85", "28541554483" + "0" * 75, {"relative_1pct"}),
        ("1.2E+34", "117" + "0" * 32, {"rounded_as_given"}),
        ("2000", "1999", {"relative_1pct"}),
        ("26643502.54", "266435025384/10000", {"2d4s", "rounded_as_given", "relative_1pct", "isclose_1e-2"}),
        ("60%", "60", set(POLICIES)),
        ("13", "63/5", set(TWO_LAST) - {"relative_1pct"}),
        ("1/3", "334/1000", {"2d4s", "relative_1pct", "isclose_1e-2"}),
    ],
)
def test_verdicts(answer: str, truth: str, right: set[Policy]) -> None:
    assert passed(f"#### {answer}", Fraction(truth)) == right


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("0.12", "0.125", True),
        ("0.13", "0.125", True),
        ("-0.12", "-0.125", True),
        ("-0.13", "-0.125", True),
        ("0.14", "0.135", True),
        ("0.13", "0.135", False),
        ("0.1", "0.125", True),
        ("0.2", "0.125", False),
        ("0", "0.3", False),
        ("0.00", "0.003", False),
    ],
)
def test_rounded_as_given_takes_halves_away_from_zero_or_to_even(answer: str, truth: str, right: bool) -> None:
    assert ("rounded_as_given" in passed(f"#### {answer}", Fraction(truth))) is right


@given(decimals, st.integers(0, 14), st.sampled_from([ROUND_HALF_UP, ROUND_HALF_EVEN]))
def test_rounded_as_given_agrees_with_decimal_rounding(truth: Decimal, places: int, rounding: str) -> None:
    with localcontext(prec=80):
        step = Decimal(1).scaleb(-places)
        answer = truth.quantize(step, rounding)
        wrong = answer + 2 * step
    assert ("rounded_as_given" in passed(f"#### {answer:f}", Fraction(truth))) is (answer != 0 or truth == 0)
    assert "rounded_as_given" not in passed(f"#### {wrong:f}", Fraction(truth))


@pytest.mark.parametrize(
    ("answer", "right"),
    [(r"7\sqrt{5}", True), (r"$7 \sqrt5$", True), (r"5\sqrt{7}", False), ("15.65", False), ("x" * 500, False)],
)
def test_a_symbolic_truth_has_one_verdict(answer: str, right: bool) -> None:
    assert grade(rf"Thus \boxed{{{answer}}}.", r"7\sqrt{5}").verdicts == dict.fromkeys(POLICIES, right)


def test_finds_the_answer_of_every_raw_contest_solution() -> None:
    path = SHARED / "contest" / "raw_sample.jsonl"
    if not path.exists():
        pytest.skip("needs the shared folder's contest/raw_sample.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    chinese = [row["solution"] for row in rows if not row["problem"].isascii() and "\\boxed" not in row["solution"]]
    assert len(chinese) > 250
    for solution in chinese:
        stated = re.split("[=：为]", solution)[-1].removesuffix("平方厘米").removesuffix("克").strip()
        assert grade(solution, Fraction(stated)).verdicts == dict.fromkeys(POLICIES, True), solution
