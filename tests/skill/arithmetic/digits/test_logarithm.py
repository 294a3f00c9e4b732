"""The table agrees with the standard library's logarithm, and decimals are found between two of its lines."""

import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skill.arithmetic.digits import logarithm


@given(st.integers(logarithm.FIRST, logarithm.LAST))
def test_every_fact_is_the_rounded_logarithm(number: int) -> None:
    assert logarithm.fact(number) == f"lg{number}={math.log10(number) - 2:.7f}".replace("=0.", "=")


@given(st.integers(0, 10**7 - 1))
def test_decimals_lie_between_the_facts_that_are_written(decimals: int) -> None:
    fraction = f"{decimals:07d}"
    line, found = logarithm.located(fraction)
    facts = re.findall(r" lg(\d+)=(\d{7})([<>])", line)
    assert line == fraction + "".join(f" lg{number}={value}{sign}{fraction}" for number, value, sign in facts)
    assert all((value <= fraction) == (sign == "<") for _, value, sign in facts)
    assert found == max(int(number) for number, _, sign in facts if sign == "<")
    assert found == logarithm.LAST or str(found + 1) in [number for number, _, _ in facts[-2:]]


@pytest.mark.parametrize(
    ("number", "line"),
    [
        ("3.47", "3.47:lg347=5403295"),
        ("68", "68:lg680=8325089"),
        ("0.05", "0.05:lg500=6989700"),
        ("100", "100:lg100=0000000"),
    ],
)
def test_a_number_is_written_before_it_is_looked_up(number: str, line: str) -> None:
    assert logarithm.looked_up(number) == (line, line[-7:])


@given(st.integers())
def test_a_recited_line_is_one_of_the_table(seed: int) -> None:
    given_part, told = logarithm.recited(random.Random(seed))
    if match := re.fullmatch(r"lg(\d{3})=", given_part):
        assert given_part + told == logarithm.fact(int(match[1]))
    elif given_part.endswith(":"):
        assert given_part + told == logarithm.looked_up(given_part[:-1])[0]
    else:
        assert given_part + told == logarithm.located(given_part)[0]


def test_all_facts_are_recited() -> None:
    generator = random.Random(0)
    lines = [logarithm.recited(generator)[0] for _ in range(20_000)]
    assert len({line for line in lines if line.startswith("lg")}) == logarithm.LAST - logarithm.FIRST + 1
    assert {len(line) for line in lines if line.isdecimal()} == {logarithm.DECIMALS}
    assert {line for line in lines if re.fullmatch("[1-9][0-9]?:", line)} > {"1:", "9:", "10:", "99:"}
