"""The problems in a file of forbidden problems are recognized, and a file without known problems is an error."""

import random
import re
from pathlib import Path

import pytest
from corpus import SKILL, write
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.decontamination import build_generation_filter
from keeptune.errors import DataError
from keeptune.skills.arithmetic.contest_corpus import IsExcluded
from keeptune.skills.arithmetic.word_problems import NAMES

ADD = ("计算 1.50 + 2.00 等于多少？", "1.50 + 2.00 = 3.5")
FRACTION = ("将分数 2/4 进行简化。", "最简化的形式为：1/2")


def story(name: str, side: int) -> tuple[str, str]:
    problem = f"{name} cuts an equilateral triangle with sides of ${side}$ mm out of cardboard. "
    problem += "How many millimetres is it high? Give the exact answer in simplest radical form."
    return problem, rf"It is $\boxed{{{side}\sqrt{{3}}}}$ millimetres."


def forbid(tmp_path: Path, *pairs: tuple[str, str]) -> IsExcluded:
    is_forbidden = build_generation_filter([write(tmp_path / "test.jsonl", pairs)], SKILL)
    assert is_forbidden is not None
    return is_forbidden


def test_without_files_there_is_no_filter() -> None:
    assert build_generation_filter([], SKILL) is None


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (ADD[0], True),
        ("计算 2.00 + 1.50 等于多少？", True),
        ("计算 2.00 + 1.51 等于多少？", False),
        ("计算 1.50 - 2.00 等于多少？", False),
        (FRACTION[0], True),
        ("将分数 1/2 进行简化。", False),
    ],
)
def test_a_problem_and_its_canonical_form_are_forbidden(tmp_path: Path, problem: str, expected: bool) -> None:
    assert forbid(tmp_path, ADD, FRACTION)(problem, "") == expected


def test_a_story_with_other_numbers_is_allowed_and_with_another_name_forbidden(tmp_path: Path) -> None:
    is_forbidden = forbid(tmp_path, story("Ada", 81))
    assert is_forbidden(*story("Ada", 81))
    assert is_forbidden(*story("Ben", 81))
    assert not is_forbidden(*story("Ada", 82))
    unlike = "How many sides has a polygon whose 81 corners lie on one circle?"
    assert not is_forbidden(unlike, r"$\boxed{81}$")


@given(st.sampled_from(SKILL.kinds), st.integers())
def test_a_generated_problem_is_forbidden_when_it_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int
) -> None:
    own, other = (SKILL.generate(kind, random.Random(number)) for number in (seed, seed + 1))
    is_forbidden = forbid(tmp_path_factory.getbasetemp(), own)
    assert is_forbidden(*own)
    if sorted(re.findall("[0-9.]+", other[0])) != sorted(re.findall("[0-9.]+", own[0])):
        assert not is_forbidden(*other)
    if kind == "english":
        pattern = "|".join(NAMES)
        assert is_forbidden(re.sub(rf"\b({pattern})\b", "Zoe", own[0]), own[1])


def test_every_format_is_read_and_every_file_needs_a_known_problem(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"kind,problem,solution\nadd,{ADD[0]},{ADD[1]}\n", encoding="utf-8")
    files = [str(tmp_path / "a.csv"), write(tmp_path / "b.jsonl", [FRACTION])]
    is_forbidden = build_generation_filter(files, SKILL)
    assert is_forbidden is not None and is_forbidden(*ADD) and is_forbidden(*FRACTION)
    other = write(tmp_path / "c.jsonl", [("计算 5 的阶乘？", "120")])
    with pytest.raises(DataError, match=r"c\.jsonl: no row is a problem"):
        build_generation_filter([*files, other], SKILL)
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read"):
        build_generation_filter([*files, str(tmp_path / "none.jsonl")], SKILL)
