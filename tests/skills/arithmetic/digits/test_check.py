"""The judge of work digit by digit: a single wrong digit, sign or line is found."""

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding
from keeptune.skills.arithmetic.digits.check import find_error
from keeptune.skills.arithmetic.kind import DigitKind
from keeptune.skills.arithmetic.kinds import KINDS
from keeptune.skills.arithmetic.skill import Arithmetic

SKILL = Arithmetic()
WORKED = tuple(kind for kind in KINDS if isinstance(kind, DigitKind))

SUM = "计算 7860.75 + 12.05 等于多少？"
COLUMNS = "f5+5=10+0=10e7+0=07+1=08d0+2=02+0=02c6+1=07+0=07b8+0=08+0=08a7+0=07+0=07"
SOLVED = f"+ + +\na70b80c61d02e70f55\n{COLUMNS}\n0a7b8c7d2.e8f0\n#### 7872.80"


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_changed_digit_is_found(kind: DigitKind[Any], seed: int, data: st.DataObject) -> None:
    generator = random.Random(seed)
    problem = kind.sample(generator)
    solution, text = kind.render_digits(problem), kind.render_problem(problem)
    steps = solution.rpartition("\n")[0]
    places = [place for place, character in enumerate(steps) if character.isdigit()]
    assume(places)
    place = data.draw(st.sampled_from(places))
    digit = (int(steps[place]) + data.draw(st.integers(1, 9))) % 10
    changed = f"{solution[:place]}{digit}{solution[place + 1 :]}"
    assert find_error(changed, text, kind.value(problem)) is not None


def written(text: str) -> str:
    read = SKILL.parse(text, "")
    assert read is not None
    return SKILL.render_solution(read, "", "digits", Rounding())


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_line_cannot_be_left_out(kind: DigitKind[Any], seed: int, data: st.DataObject) -> None:
    problem = kind.sample(random.Random(seed))
    lines = kind.render_digits(problem).split("\n")
    assume(len(lines) > 4)
    # Signs, short sums, lists of a result and the line of a 0 only repeat what stands there: they may be missing.
    long = [
        place
        for place, line in enumerate(lines[:-1])
        if len(line) > 15 and "=" in line and not any(part in line for part in ("=0:", "-0*"))
    ]
    assume(len(long) > 1)
    lines.pop(data.draw(st.sampled_from(long)))
    assert find_error("\n".join(lines), kind.render_problem(problem), kind.value(problem)) is not None


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("7872.80", "7882.80", "'#### 7882.80'"),
        ("+ + +", "+ + -", "'+ + -'"),
        ("c7d2", "c7d3", "'0a7b8c7d3.e8f0'"),
        ("a70b", "a60b", "'a60b80c61d02e70f55'"),
        (COLUMNS, COLUMNS[:12], "'f5+5=10+0=10'"),
        ("#### ", "", "'7872.80'"),
    ],
)
def test_messages_name_the_line(before: str, after: str, line: str) -> None:
    assert find_error(SOLVED, SUM, Fraction("7872.8")) is None
    error = find_error(SOLVED.replace(before, after), SUM, Fraction("7872.8"))
    assert error is not None and line in error


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("计算 3.00 * 4.00 等于多少？", "+ + +", "- - +"),
        ("计算 5.00 + -3.00 等于多少？", "+ - -", "- + -"),
        ("计算 5.00 - 3.00 等于多少？", "+ - -", "- + -"),
        ("计算 -2.00 的 3 次方？", "- 3 -", "+ 3 +"),
        ("求以下数据的平均值：[10, 20, 30]", "1:10:0+1=1,0+0=0 2:20:1+2=3,0+0=0 3:30:3+3=6,0+0=0",
         "1:20:0+2=2,0+0=0 2:20:2+2=4,0+0=0 3:20:4+2=6,0+0=0"),
        ("求以下数据的平均值：[10, 20, 30]", " 3:30:3+3=6,0+0=0", ""),
    ],
)  # fmt: skip
def test_signs_and_numbers_are_the_problems(text: str, before: str, after: str) -> None:
    question = SKILL.parse(text, "")
    assert question is not None
    solution = SKILL.render_solution(question, "", "digits", Rounding())
    assert before in solution and SKILL.verify_solution(question, solution, "digits", Rounding()) is None
    error = SKILL.verify_solution(question, solution.replace(before, after, 1), "digits", Rounding())
    assert error is not None and error.startswith("line")


@pytest.mark.parametrize(
    "text",
    [
        "计算 9986.95 / 9986.96 等于多少？",
        "计算 -9991.84 / 9991.87 等于多少？",
        "计算 0.01 / 200000000.00 等于多少？",
        "计算 0.02 / 100000001.88 等于多少？",
        "商品原价为 99337808 元，打折后的价格为 9 元，请计算打折的折扣比例。",
        f"求以下数据的平均值：[{', '.join(['87'] * 50)}]",
    ],
)
def test_problems_without_digit_procedure_use_longhand(text: str) -> None:
    question = SKILL.parse(text, "")
    assert question is not None
    solution = SKILL.render_solution(question, "", "digits", Rounding())
    assert SKILL.verify_solution(question, solution, "digits", Rounding()) is None
    assert solution == SKILL.render_solution(question, "", "longhand", Rounding())


def test_divisors_that_begin_with_a_nine_are_worked_like_others() -> None:
    draw = random.Random(5)
    texts = [
        f"计算 {draw.randint(1, 999_999) / 100:.2f} / 9{draw.randint(0, 99_999) / 100:06.2f} 等于多少？"
        for _ in range(300)
    ]
    questions = [question for text in texts if (question := SKILL.parse(text, ""))]
    assert len(questions) == len(texts)
    short = [
        SKILL.render_solution(one, "", "digits", Rounding()) == SKILL.render_solution(one, "", "longhand", Rounding())
        for one in questions
    ]
    assert sum(short) < 3


def test_an_answer_must_follow_from_the_steps() -> None:
    near = SOLVED.replace("7872.80", "7872.801")
    error = find_error(near, SUM, Fraction("7872.8"))
    assert error is not None and error.startswith("answer '#### 7872.801'")


def test_numbers_of_another_problem_are_rejected() -> None:
    text = "计算 7860.75 + 12.06 等于多少？"
    error = find_error(SOLVED, text, Fraction("7872.8"))
    assert error is not None and error.startswith("line 'a70b80c61d02e70f55'")


@given(st.text("+-0123456789abuvyzE:=<>r,./*( \n", max_size=60))
def test_every_text_is_handled(text: str) -> None:
    find_error(f"{text}\n#### 1", "计算 1.00 + 0.00 等于多少？", Fraction(1))


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_every_change_is_handled(kind: DigitKind[Any], seed: int, data: st.DataObject) -> None:
    problem = kind.sample(random.Random(seed))
    solution = kind.render_digits(problem)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(solution))] * 2)))
    put = data.draw(st.text("+-0123456789abuvz:=E<>,./* \n", max_size=9)) * data.draw(st.sampled_from([1, 2, 3000]))
    find_error(f"{solution[:start]}{put}{solution[stop:]}", kind.render_problem(problem), kind.value(problem))


@pytest.mark.parametrize(
    "line",
    ["(" * 900 + "=1", "1E+999999999=1", "9" * 5000 + ":1", "8" * 5000 + "+1=1", "12:3-1:1", "5:2:=", "12:6,*:1"],
)
def test_lines_that_python_cannot_read(line: str) -> None:
    error = find_error(f"{line}\n#### 1", "计算 1.00 + 0.00 等于多少？", Fraction(1))
    assert error is not None and error.startswith(f"line {line!r}")


@pytest.mark.parametrize(
    ("text", "truth", "before", "after"),
    [
        ("计算 54.40 * 8.00 等于多少？", "435.2", "2+1=3b", "1+2=3b"),
        ("计算 54.40 * 8.00 等于多少？", "435.2", "=3\n", "=4\n"),
        ("计算 54.40 * 8.00 等于多少？", "435.2", "b5.c2", "b5.c2."),
        ("计算 491.30 的 4 次方？", "58261950437.1361", "6+6=12E", "7+6=13E"),
        ("当 x = 3.47 时，求函数 y = 68x^2 的值", "818.7812", "\n68\n", "\n60\n"),
        ("计算 25.18 的平方根？", "5.0179677", "2518.00E-1", "2518.00E-3"),
        ("计算 4080.17 的平方根？", "63.8762", "63+63=0126", "63+63=126"),
        ("计算 3.00 的 2 次方？", "9", "+ 2 +", "+ 3 +"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "12:1-0*2=1,12-6*2=0:6", "12:6"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "6:3,6,12", "6:6-3*2=0:3,6,12"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "13-1:12,13", "13:12,13"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "3-1:2,3", "3-1:2,2"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "2:1,2,3,6,12,13\n", ""),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "3,6,12,13:2+1=3", "3,6,13:2+1=3"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "12,13:6+6=12", "13,12:6+6=12"),
        ("当 x = 1.02 时，求函数 y = 7x^13 的值", "9.0552447", "2,3,6,12,13:1+1=2", "3,6,12,13:1+1=2"),
        ("当 x = 9.09 时，求函数 y = 100x^45 的值", "1.3657581E45", "22+22:2+2=4,20+20=40:40+4=44", "22+22=44"),
        ("当 x = 9.09 时，求函数 y = 100x^45 的值", "1.3657581E45", "2+2=4,20+20=40:40+4", "2+2=14,20+20=30:30+14"),
        ("当 x = 9.09 时，求函数 y = 100x^45 的值", "1.3657581E45", ",20+20=40:40+4=44", ",10+30=40:40+4=44"),
        ("当 x = 9.09 时，求函数 y = 100x^45 的值", "1.3657581E45", "22+22:2+2=4,", "22+22:2+2=5,"),
        ("计算 4.12 的 3 次方？", "69.934528", "2+1=3b", "2+1:2+1=3,0+0=0:0+3=3b"),
    ],
)
def test_what_stands_for_something_else_is_found(text: str, truth: str, before: str, after: str) -> None:
    solution = written(text)
    assert find_error(solution, text, Fraction(truth)) is None
    assert before in solution
    assert find_error(solution.replace(before, after), text, Fraction(truth)) is not None


def test_a_root_takes_all_columns_off() -> None:
    text, truth = "计算 4080.17 的平方根？", Fraction("63.8762")
    solution = written(text)
    line = next(line for line in solution.split("\n") if line.startswith("048/12=2:"))
    short = "480/12=2:b204+0=04,0-4=16a102+1=03,8-3=05,4-0=0456"
    assert find_error(solution.replace(line, short).replace("0124,0236:1,2", "0124,0456:1,4"), text, truth) is not None
