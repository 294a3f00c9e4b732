"""The judge of work digit by digit: a single wrong digit, sign or line is found."""

import random
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keeptune.skill.arithmetic.digits.check import fault
from keeptune.skill.arithmetic.kinds import KINDS

WORKED = tuple(kind for kind in KINDS if kind.name not in {"mass", "fraction", "function"})

SUM = "计算 7860.75 + 12.05 等于多少？"
SOLVED = "+++\na7007b8008c6107d0202e7007f5510\nf10e08d02c07b08a07\n#### 7872.80"


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_changed_digit_is_found(kind: object, seed: int, data: st.DataObject) -> None:
    generator = random.Random(seed)
    problem = kind.random(generator)  # type: ignore[attr-defined]
    solution, text = kind.by_digits(problem), kind.write(problem)  # type: ignore[attr-defined]
    steps = solution.rpartition("\n")[0]
    places = [place for place, character in enumerate(steps) if character.isdigit()]
    assume(places)
    place = data.draw(st.sampled_from(places))
    digit = (int(steps[place]) + data.draw(st.integers(1, 9))) % 10
    changed = f"{solution[:place]}{digit}{solution[place + 1 :]}"
    assert fault(changed, text, kind.value(problem)) is not None  # type: ignore[attr-defined]


@given(st.sampled_from(WORKED), st.integers(0, 2**64), st.data())
def test_a_line_cannot_be_left_out(kind: object, seed: int, data: st.DataObject) -> None:
    problem = kind.random(random.Random(seed))  # type: ignore[attr-defined]
    lines = kind.by_digits(problem).split("\n")  # type: ignore[attr-defined]
    assume(len(lines) > 4)
    # Signs, sums of places, and the line of a 0 that repeats what stands there may be missing without a fault.
    long = [place for place, line in enumerate(lines[:-1]) if len(line) > 8 and not line.startswith("0")]
    assume(len(long) > 1)
    lines.pop(data.draw(st.sampled_from(long)))
    assert fault("\n".join(lines), kind.write(problem), kind.value(problem)) is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("7872.80", "7882.80", "the answer '#### 7882.80' is not 39364/5"),
        ("+++", "++-", "the line '++-' does not hold"),
        ("a7007", "a6006", "the line 'a6006b8008c6107d0202e7007f5510' does not hold"),
        ("f10e08", "f10e07", "the line 'f10e07d02c07b08a07' does not hold"),
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
    assert fault(SOLVED, text, Fraction("7872.8")) == "the line 'a7007b8008c6107d0202e7007f5510' does not hold"


@given(st.text("+-0123456789abyz:=r,. \n", max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    fault(f"{text}\n#### 1", "计算 1.00 + 0.00 等于多少？", Fraction(1))
