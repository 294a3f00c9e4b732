"""The recipes of the contest teams select the documented numbers of rows from a corpus of the contest's size."""

import math
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from keeptune.config import recipe as recipes
from keeptune.data.selection import Candidate, SelectedRows, Selection, SelectionRules, resolve_kinds
from keeptune.prompts import named
from keeptune.skills.arithmetic.contest_corpus import UNIQUE_ROWS, generate_corpus
from keeptune.skills.arithmetic.skill import Arithmetic

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "seeds"
SEEDS = sorted(path.stem for path in FOLDER.glob("*.yaml"))

ROWS_OF_001 = {
    "equation": 9_525,
    "add": 9_525,
    "sub": 9_525,
    "mul": 0,
    "div": 9_525,
    "discount": 374,
    "mean": 300,
    "sales": 300,
    "area": 374,
    "power": 30,
    "sqrt": 424,
    "mass": 90,
    "fraction": 36,
}
"""Rows per kind, as report 001 lists them; its powers are ten each with the exponents 0, 1 and 2."""

ALPACA = named.resolve_prompt("alpaca").template

FACTS: dict[str, dict[str, Any]] = {
    "000": {
        "data.fraction": 0.1,
        "data.exclude": (),
        "data.styles": {"default": "raw"},
        "adapter.rank": 8,
        "adapter.alpha": 16,
        "adapter.dropout": 0.05,
        "adapter.targets": ".*wq|.*wv",
    },
    "001": {
        "seed": 42,
        "data.max_tokens": 512,
        "data.rounding.decimals": {"default": 2, "equation": 1, "div": 1, "discount": 1, "sqrt": 1},
        "train.epochs": 1,
        "adapter.rank": 16,
        "adapter.alpha": 32,
        "adapter.targets": ".*wq|.*wk|.*wv|.*wo",
        "prompt.template": ALPACA,
    },
    "002": {
        "data.exclude": ("mul", "div"),
        "data.styles": {"default": "raw"},
        "train.epochs": 5,
        "prompt.template": "Please answer the following math problems:\n{problem}\n###answer",
    },
    "004": {
        "data.max_tokens": 256,
        "train.epochs": 5,
        "train.loraplus_ratio": 16,
        "adapter.rank": 8,
        "adapter.targets": ".*wq|.*wv",
    },
}
"""What the reports state, by recipe key."""

BATCH_ROWS = {"001": 4, "002": 64, "004": 64}
SLICES = {"002": [((1, 800_000), 88_800), ((800_001, 809_993), 1_200)], "004": [(None, 90_000)]}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, facts in FACTS.items() for key in facts])
def test_a_recipe_has_the_numbers_of_its_report(name: str, key: str) -> None:
    value = recipes.load(FOLDER / f"{name}.yaml")
    assert attrgetter(key)(value) == FACTS[name][key]


def test_slices_have_the_numbers_of_their_report() -> None:
    for name, parts in SLICES.items():
        slices = recipes.load(FOLDER / f"{name}.yaml").data.slices
        assert [(part.rows, part.take) for part in slices] == parts
    takes: Counter[str] = Counter()
    for name in ("001", "001-teacher"):
        data = recipes.load(FOLDER / f"{name}.yaml").data
        takes = Counter({kind: sum(p.take for p in data.slices if p.kinds == (kind,)) for kind in ROWS_OF_001})
        assert dict(takes) == ROWS_OF_001
        powers = [(part.contains, part.take) for part in data.slices if part.kinds == ("power",)]
        assert powers == [("的 0 次方", 10), ("的 1 次方", 10), ("的 2 次方", 10)]
    assert takes.total() == 40_028


@pytest.mark.parametrize("name", BATCH_ROWS)
def test_a_step_has_as_many_rows_as_the_batch_of_the_report(name: str) -> None:
    """In tokens, for rows of about 100 tokens."""
    assert recipes.load(FOLDER / f"{name}.yaml").train.tokens_per_step == 100 * BATCH_ROWS[name]


@pytest.mark.parametrize("name", FACTS)
def test_the_header_cites_its_report(name: str) -> None:
    header = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
    assert header.startswith(f"# Report {name}")
    assert "The report leaves open:" in header


def test_the_teacher_changes_nothing_else() -> None:
    plain, taught = (recipes.load(FOLDER / f"{name}.yaml") for name in ("001", "001-teacher"))
    assert taught.data.teacher is not None
    assert taught.data.teacher.kinds == ("mean", "sales")
    data = taught.data.model_copy(update={"teacher": None})
    assert taught.model_copy(update={"name": plain.name, "data": data}) == plain


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
    assert counts == UNIQUE_ROWS  # 548,942, as the reports say
    return {name: selection.select(counts) for name, selection in selections.items()}


def count_by_kind(rows: SelectedRows) -> Counter[str]:
    return Counter(row.question.kind for row in rows.rows)


@pytest.mark.slow
def test_a_tenth_of_all_rows(selected: dict[str, SelectedRows]) -> None:
    counts = count_by_kind(selected["000"])
    assert counts == {kind: math.ceil(unique / 10) for kind, unique in UNIQUE_ROWS.items()}
    assert counts.total() == 54_900


@pytest.mark.slow
@pytest.mark.parametrize("name", ["001", "001-teacher"])
def test_rows_of_001(selected: dict[str, SelectedRows], name: str) -> None:
    counts = count_by_kind(selected[name])
    assert counts == {kind: count for kind, count in ROWS_OF_001.items() if count}
    powers = [row.question.text for row in selected[name].rows if row.question.kind == "power"]
    assert [sum(f"的 {exponent} 次方" in text for text in powers) for exponent in (0, 1, 2)] == [10, 10, 10]


@pytest.mark.slow
def test_slices_by_line(selected: dict[str, SelectedRows]) -> None:
    rows = selected["002"].rows
    assert (sum(row.line <= 800_000 for row in rows), sum(row.line > 800_000 for row in rows)) == (88_800, 1_200)
    assert {row.question.kind for row in rows if row.line > 800_000} == {"english"}
    assert not count_by_kind(selected["002"]).keys() & {"mul", "div"}


@pytest.mark.slow
def test_rows_of_the_baseline(selected: dict[str, SelectedRows]) -> None:
    assert len(selected["004"].rows) == 90_000


@pytest.mark.slow
def test_fifteen_balanced_kinds(selected: dict[str, SelectedRows]) -> None:
    rows = selected["balanced-15"]
    counts = count_by_kind(rows) | Counter(rows.repeat_targets)
    assert len(counts) == 15
    assert counts.total() == 97_450
    assert (counts["mass"], counts["fraction"], counts["sales"], counts["add"]) == (1_000, 450, 7_500, 7_500)


def test_every_selection_is_a_recipe() -> None:
    assert SEEDS == ["000", "001", "001-teacher", "002", "004", "balanced-15", "ours"]
    for name in SEEDS:
        assert recipes.load(FOLDER / f"{name}.yaml").name in (name, f"seed-{name}")
