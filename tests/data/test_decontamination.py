"""What stands in a file of forbidden problems is recognised, and a file that forbids nothing is an error."""

import random
import re
from pathlib import Path

import pytest
from corpus import SKILL, write
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.decontamination import refusal
from keeptune.errors import DataError
from keeptune.skills.arithmetic.contest_corpus import IsExcluded
from keeptune.skills.arithmetic.word_problems import NAMES

ADD = ("计算 1.50 + 2.00 等于多少？", "1.50 + 2.00 = 3.5")
FRACTION = ("将分数 2/4 进行简化。", "最简化的形式为：1/2")


def story(name: str, side: int) -> tuple[str, str]:
    problem = f"{name} cuts an equilateral triangle with sides of ${side}$ mm out of cardboard. "
    problem += "How many millimetres is it high? Give the exact answer in simplest radical form."
    return problem, rf"It is $\boxed{{{side}\sqrt{{3}}}}$ millimetres."


def refusing(tmp_path: Path, *pairs: tuple[str, str]) -> IsExcluded:
    refused = refusal([write(tmp_path / "test.jsonl", pairs)], SKILL)
    assert refused is not None
    return refused


def test_without_files_nothing_is_asked() -> None:
    assert refusal([], SKILL) is None


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
def test_a_problem_and_its_twin_are_refused(tmp_path: Path, problem: str, expected: bool) -> None:
    assert refusing(tmp_path, ADD, FRACTION)(problem, "") == expected


def test_a_story_is_another_one_with_other_numbers_but_not_with_another_name(tmp_path: Path) -> None:
    refused = refusing(tmp_path, story("Ada", 81))
    assert refused(*story("Ada", 81))
    assert refused(*story("Ben", 81))
    assert not refused(*story("Ada", 82))
    unlike = "How many sides has a polygon whose 81 corners lie on one circle?"
    assert not refused(unlike, r"$\boxed{81}$")


@given(st.sampled_from(SKILL.kinds), st.integers())
def test_what_was_invented_is_not_invented_again(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int
) -> None:
    own, other = (SKILL.generate(kind, random.Random(number)) for number in (seed, seed + 1))
    refused = refusing(tmp_path_factory.getbasetemp(), own)
    assert refused(*own)
    if sorted(re.findall("[0-9.]+", other[0])) != sorted(re.findall("[0-9.]+", own[0])):
        assert not refused(*other)
    if kind == "english":
        pattern = "|".join(NAMES)
        assert refused(re.sub(rf"\b({pattern})\b", "Zoe", own[0]), own[1])


def test_every_format_is_read_and_every_file_must_forbid_something(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"kind,problem,solution\nadd,{ADD[0]},{ADD[1]}\n", encoding="utf-8")
    files = [str(tmp_path / "a.csv"), write(tmp_path / "b.jsonl", [FRACTION])]
    refused = refusal(files, SKILL)
    assert refused is not None and refused(*ADD) and refused(*FRACTION)
    other = write(tmp_path / "c.jsonl", [("计算 5 的阶乘？", "120")])
    with pytest.raises(DataError, match=r"c.jsonl: no row of it is a problem .* would forbid nothing; check the file"):
        refusal([*files, other], SKILL)
    with pytest.raises(DataError, match=r"none.jsonl: cannot be read"):
        refusal([*files, str(tmp_path / "none.jsonl")], SKILL)
