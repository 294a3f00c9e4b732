"""The recipes of the contest teams select the documented numbers of rows from a corpus of the contest's size."""

from collections import Counter
from pathlib import Path

import pytest

from keeptune.config import recipe as recipes
from keeptune.data.selection import Candidate, SelectedRows, Selection, SelectionRules, resolve_kinds
from keeptune.skills.arithmetic.contest_corpus import generate_corpus
from keeptune.skills.arithmetic.skill import Arithmetic

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "seeds"
SEEDS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def selected() -> dict[str, SelectedRows]:
    """Returns the selected rows of all recipes after one pass over the corpus."""
    skill, kind_of_problem = Arithmetic(), {}
    selections = {}
    for name in SEEDS:
        recipe = recipes.load(FOLDER / f"{name}.yaml")
        selections[name] = Selection(
            SelectionRules.from_section(recipe.data, resolve_kinds(recipe.data, skill.kinds), 0)
        )
    for line, row in enumerate(generate_corpus(809_993, 0), start=1):
        question = skill.parse(row["problem"], row["solution"])
        assert question is not None
        kind_of_problem[question.text] = question.kind
        candidate = Candidate(question, row["solution"], None, "train.json", line)
        rank = next(iter(selections.values())).rank(question.text)
        for selection in selections.values():
            selection.add(candidate, rank)
    counts = Counter(kind_of_problem.values())
    assert counts.total() == 548_939
    return {name: selection.select(counts) for name, selection in selections.items()}


def count_by_kind(rows: SelectedRows) -> Counter[str]:
    return Counter(row.question.kind for row in rows.rows)


@pytest.mark.slow
def test_a_tenth_of_the_rows(selected: dict[str, SelectedRows]) -> None:
    counts = count_by_kind(selected["000"])
    assert counts.total() == 53_901
    assert (counts["add"], counts["mass"], counts["fraction"], counts["english"]) == (9_012, 10, 5, 0)


@pytest.mark.slow
def test_forty_thousand_by_quota(selected: dict[str, SelectedRows]) -> None:
    counts = count_by_kind(selected["001"])
    assert counts.total() == 40_000
    assert (counts["add"], counts["mean"], counts["mass"], counts["fraction"], counts["mul"]) == (
        9_525,
        350,
        100,
        45,
        0,
    )


@pytest.mark.slow
def test_slices_by_line(selected: dict[str, SelectedRows]) -> None:
    rows = selected["002"].rows
    assert (sum(row.line <= 800_000 for row in rows), sum(row.line > 800_000 for row in rows)) == (88_800, 1_200)
    assert {row.question.kind for row in rows if row.line > 800_000} == {"english"}
    assert not count_by_kind(selected["002"]).keys() & {"mul", "div"}


@pytest.mark.slow
def test_easy_kinds(selected: dict[str, SelectedRows]) -> None:
    assert count_by_kind(selected["004"]).total() == 7_500


@pytest.mark.slow
def test_fifteen_balanced_kinds(selected: dict[str, SelectedRows]) -> None:
    rows = selected["balanced-15"]
    counts = count_by_kind(rows) | Counter(rows.repeat_targets)
    assert len(counts) == 15
    assert counts.total() == 97_450
    assert (counts["mass"], counts["fraction"], counts["sales"], counts["add"]) == (1_000, 450, 7_500, 7_500)


def test_every_selection_is_a_recipe() -> None:
    assert SEEDS == ["000", "001", "002", "004", "balanced-15", "ours"]
    for name in SEEDS:
        assert recipes.load(FOLDER / f"{name}.yaml").name in (name, f"seed-{name}")
