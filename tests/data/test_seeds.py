"""The contest teams' selections, as recipes, take the rows that they say from a corpus of the contest's size."""

from collections import Counter
from pathlib import Path

import pytest

from keeptune.config import recipe as recipes
from keeptune.data.selection import Candidate, Choice, Rules, Selection, wanted_kinds
from keeptune.skills.arithmetic.contest_corpus import generate_corpus
from keeptune.skills.arithmetic.skill import Arithmetic

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "seeds"
SEEDS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def choices() -> dict[str, Choice]:
    """One pass over the corpus for all selections."""
    skill, unique = Arithmetic(), {}
    selections = {}
    for name in SEEDS:
        recipe = recipes.load(FOLDER / f"{name}.yaml")
        selections[name] = Selection(Rules.of(recipe.data, wanted_kinds(recipe.data, skill.kinds), 0))
    for line, row in enumerate(generate_corpus(809_993, 0), start=1):
        question = skill.parse(row["problem"], row["solution"])
        assert question is not None
        unique[question.text] = question.kind
        candidate = Candidate(question, row["solution"], None, "train.json", line)
        rank = next(iter(selections.values())).rank(question.text)
        for selection in selections.values():
            selection.add(candidate, rank)
    counts = Counter(unique.values())
    assert counts.total() == 548_939
    return {name: selection.choose(counts) for name, selection in selections.items()}


def taken(choice: Choice) -> Counter[str]:
    return Counter(row.question.kind for row in choice.rows)


@pytest.mark.slow
def test_a_tenth(choices: dict[str, Choice]) -> None:
    found = taken(choices["000"])
    assert found.total() == 53_901
    assert (found["add"], found["mass"], found["fraction"], found["english"]) == (9_012, 10, 5, 0)


@pytest.mark.slow
def test_forty_thousand_by_quota(choices: dict[str, Choice]) -> None:
    found = taken(choices["001"])
    assert found.total() == 40_000
    assert (found["add"], found["mean"], found["mass"], found["fraction"], found["mul"]) == (9_525, 350, 100, 45, 0)


@pytest.mark.slow
def test_slices_by_line(choices: dict[str, Choice]) -> None:
    rows = choices["002"].rows
    assert (sum(row.line <= 800_000 for row in rows), sum(row.line > 800_000 for row in rows)) == (88_800, 1_200)
    assert {row.question.kind for row in rows if row.line > 800_000} == {"english"}
    assert not taken(choices["002"]).keys() & {"mul", "div"}


@pytest.mark.slow
def test_easy_kinds(choices: dict[str, Choice]) -> None:
    assert taken(choices["004"]).total() == 7_500


@pytest.mark.slow
def test_fifteen_balanced_kinds(choices: dict[str, Choice]) -> None:
    choice = choices["balanced-15"]
    found = taken(choice) | Counter(choice.repeated)
    assert len(found) == 15
    assert found.total() == 97_450
    assert (found["mass"], found["fraction"], found["sales"], found["add"]) == (1_000, 450, 7_500, 7_500)


def test_every_selection_is_a_recipe() -> None:
    assert SEEDS == ["000", "001", "002", "004", "balanced-15", "ours"]
    for name in SEEDS:
        assert recipes.load(FOLDER / f"{name}.yaml").name in (name, f"seed-{name}")
