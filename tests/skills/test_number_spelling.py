"""Every text comes back from its spelling, and every spelling is what it is said to be."""

import random
import re
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keeptune.config.solution_format import Rounding, Spelling, Style
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill
from keeptune.skills.number_spelling import spell, unspell

SKILL: Skill = Arithmetic()
SPELLINGS: tuple[Spelling, ...] = get_args(Spelling)
OTHERS = st.sampled_from([spelling for spelling in SPELLINGS if spelling != "plain"])
ROUNDINGS = st.builds(Rounding, st.integers(0, 12), st.none() | st.integers(1, 12))

# Dense in what a spelling is made of, so that every clash is met.
CLASHING = st.text("0123456789  ,,..-+=aEx\n", max_size=30)
NUMBERS = st.decimals(-(10**20), 10**20, places=6).map(lambda number: f"{number:f}") | st.integers().map(str)


def written(kind: str, seed: int, style: Style, rounding: Rounding) -> str:
    problem, stored = SKILL.generate(kind, random.Random(seed))
    question = SKILL.parse(problem, stored)
    assert question is not None
    return SKILL.render_solution(question, stored, style, rounding)


def in_steps(text: str, spelling: Spelling) -> str:
    """The spelling of a text that stands in the steps."""
    spelled = spell(f"{text}\n#### 1234", spelling)
    assert spelled.endswith("\n#### 1234")
    return spelled.removesuffix("\n#### 1234")


SHAPES = "-1234.5*67+1234567.0891=0.12345...\na90b12=f15-8-0=7\n9.8765432E+1234*1000x\n#### -1234567.5"
SPACED = (
    "-1 2 3 4.5*6 7+1 2 3 4 5 6 7.0 8 9 1=0.1 2 3 4 5...\n"
    "a9 0b1 2=f1 5-8-0=7\n9.8 7 6 5 4 3 2E+1 2 3 4*1 0 0 0x\n#### -1234567.5"
)
GROUPED = "-1,234.5*67+1,234,567.0891=0.12345...\na90b12=f15-8-0=7\n9.8765432E+1,234*1,000x\n#### -1234567.5"
REVERSED = "-5.4321*76+1980.7654321=54321.0...\na90b12=f15-8-0=7\n2345678.9E+4321*0001x\n#### -1234567.5"


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [("plain", SHAPES), ("spaced", SPACED), ("grouped", GROUPED), ("reversed", REVERSED)],
)
def test_numbers_of_every_shape(spelling: Spelling, expected: str) -> None:
    assert spell(SHAPES, spelling) == expected
    assert unspell(expected, spelling) == SHAPES


@pytest.mark.parametrize(
    ("spelling", "text", "expected"),
    [
        ("spaced", "3 4", "3  4"),
        ("spaced", "12  34,5", "1 2   3 4,5"),
        ("grouped", "1,234", "1,,234"),
        ("grouped", "1234,,5678.1,2", "1,234,,,5,678.1,,2"),
        ("reversed", "12.34.567 08", "43.21.765 80"),
        ("reversed", "a12.345", "a12.345"),
        ("grouped", "a4567", "a4567"),
    ],
)
def test_text_that_resembles_a_spelling_is_distinguished(spelling: Spelling, text: str, expected: str) -> None:
    assert in_steps(text, spelling) == expected
    assert unspell(f"{expected}\n#### 1", spelling) == f"{text}\n#### 1"


@given(st.text(max_size=40) | CLASHING, st.sampled_from(SPELLINGS))
@example("1 \n2,3", "spaced")
def test_every_text_comes_back(text: str, spelling: Spelling) -> None:
    spelled = spell(text, spelling)
    assert unspell(spelled, spelling) == text
    assert spelled.rpartition("\n")[2] == text.rpartition("\n")[2]
    assert spelled.count("\n") == text.count("\n")


@given(
    st.sampled_from(SKILL.kinds),
    st.integers(),
    st.sampled_from(["answer", "rule", "longhand"]),
    ROUNDINGS,
    st.sampled_from(SPELLINGS),
)
def test_every_written_solution_comes_back(
    kind: str, seed: int, style: Style, rounding: Rounding, spelling: Spelling
) -> None:
    solution = written(kind, seed, style, rounding)
    assert unspell(spell(solution, spelling), spelling) == solution


@given(CLASHING, CLASHING, OTHERS)
def test_two_texts_are_never_spelled_alike(one: str, other: str, spelling: Spelling) -> None:
    assert (spell(one, spelling) == spell(other, spelling)) == (one == other)


@given(NUMBERS)
def test_a_number_in_each_spelling(number: str) -> None:
    sign, size = ("-", number[1:]) if number.startswith("-") else ("", number)
    whole, point, decimals = size.partition(".")
    assert in_steps(number, "plain") == number
    assert in_steps(number, "spaced") == f"{sign}{' '.join(whole)}{point}{' '.join(decimals)}"
    assert in_steps(number, "grouped") == f"{sign}{int(whole):,}{point}{decimals}"
    assert in_steps(number, "reversed") == sign + "".join(reversed(size))


@given(st.sampled_from(SKILL.kinds[:-1]), st.integers(), st.sampled_from(["rule", "longhand"]))
def test_spellings_separate_group_or_reverse_digits(kind: str, seed: int, style: Style) -> None:
    solution = written(kind, seed, style, Rounding())
    assert not re.search("[0-9]{2}", spell(solution, "spaced").rpartition("\n")[0])
    assert not re.search(r"(?<![.0-9])[0-9]{4}", spell(solution, "grouped").rpartition("\n")[0])
    backwards = spell(solution, "reversed").rpartition("\n")[0]
    assert sorted(backwards) == sorted(solution.rpartition("\n")[0])
