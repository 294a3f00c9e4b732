"""The judge of work digit by digit: a single wrong digit, sign or line is found."""

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keeptune.skill.arithmetic.digits.check import fault
from keeptune.skill.arithmetic.kind import KindByDigits
from keeptune.skill.arithmetic.kinds import KINDS

WORKED = tuple(kind for kind in KINDS if isinstance(kind, KindByDigits))

SUM = "计算 7860.75 + 12.05 等于多少？"
COLUMNS = "f5+5=10+0=10e7+0=07+1=08d0+2=02+0=02c6+1=07+0=07b8+0=08+0=08a7+0=07+0=07"
SOLVED = f"+ + +\na70b80c61d02e70f55\n{COLUMNS}\n0a7b8c7d2.e8f0\n#### 7872.80"


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_changed_digit_is_found(kind: KindByDigits[Any], seed: int, data: st.DataObject) -> None:
    generator = random.Random(seed)
    problem = kind.random(generator)
    solution, text = kind.by_digits(problem), kind.write(problem)
    steps = solution.rpartition("\n")[0]
    places = [place for place, character in enumerate(steps) if character.isdigit()]
    assume(places)
    place = data.draw(st.sampled_from(places))
    digit = (int(steps[place]) + data.draw(st.integers(1, 9))) % 10
    changed = f"{solution[:place]}{digit}{solution[place + 1 :]}"
    assert fault(changed, text, kind.value(problem)) is not None


def wrong_trial(line: str) -> bool:
    return ("*" in line and ">" in line) or "-," in line


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_line_cannot_be_left_out(kind: KindByDigits[Any], seed: int, data: st.DataObject) -> None:
    problem = kind.random(random.Random(seed))
    lines = kind.by_digits(problem).split("\n")
    assume(len(lines) > 4)
    # Signs, short sums, lists of a result and the line of a 0 only repeat what stands there, and the wrong trials
    # of means and roots change nothing: they may be missing.
    long = [
        place
        for place, line in enumerate(lines[:-1])
        if len(line) > 15 and "=" in line and not any(part in line for part in ("=0:", "-0*")) and not wrong_trial(line)
    ]
    assume(len(long) > 1)
    lines.pop(data.draw(st.sampled_from(long)))
    assert fault("\n".join(lines), kind.write(problem), kind.value(problem)) is not None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("7872.80", "7882.80", "the answer '#### 7882.80' is not 39364/5"),
        ("+ + +", "+ + -", "the line '+ + -' does not hold"),
        ("c7d2", "c7d3", "the line '0a7b8c7d3.e8f0' does not hold"),
        ("a70b", "a60b", "the line 'a60b80c61d02e70f55' does not hold"),
        (COLUMNS, COLUMNS[:12], "the line 'f5+5=10+0=10' does not hold"),
        ("#### ", "", "the last line '7872.80' is not `#### answer`"),
    ],
)
def test_messages_name_the_line(before: str, after: str, message: str) -> None:
    assert fault(SOLVED, SUM, Fraction("7872.8")) is None
    assert fault(SOLVED.replace(before, after), SUM, Fraction("7872.8")) == message


def test_an_answer_must_follow_from_the_steps() -> None:
    near = SOLVED.replace("7872.80", "7872.801")
    assert fault(near, SUM, Fraction("7872.8")) == "the answer '#### 7872.801' is not what the steps end with"


def test_other_peoples_numbers_are_not_taken() -> None:
    text = "计算 7860.75 + 12.06 等于多少？"
    assert fault(SOLVED, text, Fraction("7872.8")) == "the line 'a70b80c61d02e70f55' does not hold"


@given(st.text("+-0123456789abyz:=r,. \n", max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    fault(f"{text}\n#### 1", "计算 1.00 + 0.00 等于多少？", Fraction(1))
