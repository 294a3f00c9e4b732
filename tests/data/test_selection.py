"""The selection has each problem once, is a prefix of a fixed order, and does not depend on the order of the rows."""

import math
import pickle
import random
import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from cpu_time import bounded_work
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.data import DataSection, SliceSection
from keeptune.data.selection import (
    Candidate,
    CandidateBatch,
    SelectedRows,
    Selection,
    SelectionRules,
    digest,
    resolve_kinds,
)
from keeptune.errors import DataError, RecipeError
from keeptune.skills.base import Question
from keeptune.skills.text import Text

KINDS = ("add", "mean", "area")


def row(kind: str, name: object, solution: str = "s") -> Candidate:
    fault = "wrong" if solution.startswith("bad") else None
    return Candidate(Question(kind, f"{kind} {name}", Fraction(1)), solution, fault, "file", 1)


def section(**values: Any) -> DataSection:
    return DataSection.model_validate({"files": ["a"], **values})


def scan(rows: Iterable[Candidate], rules: SelectionRules) -> Selection:
    """Returns the selection after a pass over the rows."""
    selection = Selection(rules)
    for candidate in rows:
        selection.add(candidate, selection.rank(candidate.question.text))
    return selection


def select(
    rows: list[Candidate], kinds: tuple[str, ...], quota: dict[str, int], fraction: float, seed: int, repeats: int = 1
) -> SelectedRows:
    distinct = Counter({c.question.text: c.question.kind for c in rows}.values())
    return scan(rows, SelectionRules(kinds, seed, quota, fraction, (), repeats)).select(distinct)


def texts(selected: SelectedRows) -> list[str]:
    return [row.question.text for row in selected.rows]


ROWS = st.lists(
    st.builds(row, st.sampled_from(KINDS), st.integers(0, 30), st.sampled_from(["s", "t", "bad s", "bad t"])),
    min_size=1,
    max_size=80,
)


TRUTHS = st.one_of(st.fractions(), st.text(max_size=5))


@given(st.lists(st.tuples(TRUTHS, st.none() | st.just("wrong"), st.integers(1, 99)), max_size=5))
def test_pickled_batches_are_equal(values: list[tuple[Any, str | None, int]]) -> None:
    rows = [Candidate(Question("add", "1 + 1", truth), "s", fault, "file", line) for truth, fault, line in values]
    assert list(pickle.loads(pickle.dumps(CandidateBatch(rows)))) == rows


@given(ROWS, st.randoms(use_true_random=False), st.integers(), st.sampled_from([1.0, 0.5, 0.1]), st.data())
def test_the_selection_does_not_depend_on_the_order(
    rows: list[Candidate], shuffler: random.Random, seed: int, fraction: float, data: st.DataObject
) -> None:
    problems = {candidate.question.text: candidate.question.kind for candidate in rows}
    distinct = Counter(problems.values())
    kind, available = data.draw(st.sampled_from(sorted(distinct.items())))
    quota = {kind: data.draw(st.integers(0, math.ceil(available * Fraction(str(fraction)))))}
    expected = select(rows, KINDS, quota, fraction, seed)
    for _ in range(3):
        shuffler.shuffle(rows)
        assert select(rows, KINDS, quota, fraction, seed) == expected
    counts = Counter(candidate.question.kind for candidate in expected.rows)
    assert len(set(texts(expected))) == len(expected.rows)
    for name, count in distinct.items():
        assert counts[name] == quota.get(name, math.ceil(count * Fraction(str(fraction))))


@given(ROWS, st.integers())
def test_of_several_solutions_one_without_fault_is_selected(rows: list[Candidate], seed: int) -> None:
    selected = select(rows, KINDS, {}, 1.0, seed)
    for chosen in selected.rows:
        same = [candidate for candidate in rows if candidate.question.text == chosen.question.text]
        assert chosen in same
        assert (chosen.fault is None) == any(candidate.fault is None for candidate in same)


def test_the_rows_of_a_smaller_quota_are_a_prefix_of_a_larger_one() -> None:
    rows = [row("add", number) for number in range(1000)]
    by_size = [texts(select(rows, KINDS, {"add": size}, 1.0, 7)) for size in (0, 10, 400, 1000)]
    assert [len(names) for names in by_size] == [0, 10, 400, 1000]
    for smaller, larger in pairwise(by_size):
        assert smaller == larger[: len(smaller)]


def test_the_selection_depends_on_the_seed() -> None:
    rows = [row("add", number) for number in range(1000)]
    first, second = (set(texts(select(rows, KINDS, {"add": 300}, 1.0, seed))) for seed in (1, 2))
    assert 50 < len(first & second) < 130


def test_a_fraction_is_exact_and_keeps_every_kind() -> None:
    rows = [row("add", number) for number in range(30)] + [row("area", 1)]
    counts = Counter(candidate.question.kind for candidate in select(rows, KINDS, {}, 0.1, 0).rows)
    assert counts == {"add": 3, "area": 1}


def test_other_kinds_are_not_selected() -> None:
    assert texts(select([row("add", 1), row("mean", 1), row("mean", 1)], ("add",), {}, 1.0, 0)) == ["add 1"]


@given(ROWS, st.integers(1, 5), st.randoms(use_true_random=False), st.data())
def test_merged_passes_over_parts_equal_one_pass_over_all_rows(
    rows: list[Candidate], parts: int, shuffler: random.Random, data: st.DataObject
) -> None:
    slices = (SliceSection(take=1), SliceSection(take=2))
    quota = {kind: data.draw(st.integers(0, 3)) for kind in KINDS}
    for rules in (
        SelectionRules(KINDS, 1, quota),
        SelectionRules(KINDS, 1, fraction=0.1),
        SelectionRules(KINDS, 1, slices=slices),
    ):
        groups: list[list[Candidate]] = [[] for _ in range(parts)]
        for candidate in rows:
            shuffler.choice(groups).append(candidate)
        merged = Selection(rules)
        for part in groups:
            merged.merge(pickle.loads(pickle.dumps(scan(part, rules))))
        whole = scan(rows, rules)
        distinct = Counter({c.question.text: c.question.kind for c in rows}.values())
        try:
            expected = whole.select(distinct)
        except DataError as error:
            with pytest.raises(DataError, match=re.escape(str(error))):
                merged.select(distinct)
        else:
            assert merged.select(distinct) == expected


def test_a_small_fraction_is_exact_with_few_rows_in_memory() -> None:
    rows = [row("add", number) for number in range(30_000)]
    selection = scan(rows, SelectionRules(KINDS, 0, fraction=0.05))
    assert len(selection.pools["add"].candidates) < 8_000
    names = texts(selection.select({"add": 30_000}))
    assert names == texts(select(rows, KINDS, {"add": 1500}, 1.0, 0))


def test_a_default_quota_selects_small_kinds_completely_or_repeats_them() -> None:
    rows = [row("add", number) for number in range(50)] + [row("mean", number) for number in range(4)]
    selected = select(rows, KINDS, {"default": 10}, 1.0, 0)
    assert Counter(candidate.question.kind for candidate in selected.rows) == {"add": 10, "mean": 4}
    assert selected.repeat_targets == {}
    assert select(rows, KINDS, {"default": 10}, 1.0, 0, repeats=2).repeat_targets == {"mean": 8, "area": 0}
    assert select(rows, KINDS, {"mean": 10, "add": 5}, 1.0, 0, repeats=3).repeat_targets == {"mean": 10}
    with pytest.raises(DataError, match="mean: 9 requested, 4 available"):
        select(rows, KINDS, {"mean": 9}, 1.0, 0, repeats=2)


def test_slices_select_from_their_lines_and_share_no_problem() -> None:
    rows = [row("add", number % 60)._replace(line=number + 1) for number in range(100)]
    first, second = SliceSection(rows=(1, 50), take=20), SliceSection(rows=(41, 100), take=30)
    selected = scan(rows, SelectionRules(KINDS, 0, slices=(first, second))).select({})
    assert len(set(texts(selected))) == 50
    early = {f"add {number}" for number in range(50)}
    assert len(early & set(texts(selected))) >= 20
    with pytest.raises(DataError, match="slice 2: 41 requested, 40"):
        scan(rows, SelectionRules(KINDS, 0, slices=(first, SliceSection(take=41)))).select({})


def test_slices_by_language() -> None:
    question = Question("add", "计算", Fraction(1))
    rows = [row("add", number) for number in range(5)] + [Candidate(question, "s", None, "file", 9)]
    chinese = SliceSection(language="chinese", take=1)
    english = SliceSection(language="english", take=5)
    assert texts(scan(rows, SelectionRules(KINDS, 0, slices=(chinese,))).select({})) == ["计算"]
    assert len(texts(scan(rows, SelectionRules(KINDS, 0, slices=(english,))).select({}))) == 5


def test_an_impossible_quota_lists_every_kind() -> None:
    rows = [row("add", number) for number in range(5)] + [row("mean", 1)]
    with pytest.raises(DataError) as caught:
        select(rows, KINDS, {"add": 6, "mean": 1, "area": 2}, 1.0, 0)
    assert "add: 6 requested, 5 available" in str(caught.value)
    assert "area: 2 requested, 0 available" in str(caught.value)
    assert "mean" not in str(caught.value)
    with pytest.raises(DataError, match="add: 4 requested, 3 available"):
        select(rows, KINDS, {"add": 4}, 0.5, 0)


def test_a_quota_bounds_the_rows_in_memory() -> None:
    alive = 0

    class Counted(str):
        __slots__ = ()

        def __new__(cls, text: str) -> "Counted":
            nonlocal alive
            alive += 1
            return super().__new__(cls, text)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def rows() -> Any:
        nonlocal most
        for number in range(5000):
            yield row("add", number)._replace(solution=Counted(str(number)))
            most = max(most, alive)

    assert len(scan(rows(), SelectionRules(KINDS, 0, {"add": 50})).select({"add": 5000}).rows) == 50
    assert most < 110


def test_the_digest_of_several_texts_depends_on_their_boundaries() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a").hex() == "27c35e6e9373877f29e562464e46497e"
    assert len(digest("a", "b")) == 16


def test_resolved_kinds() -> None:
    assert resolve_kinds(section(), KINDS) == KINDS
    assert resolve_kinds(section(kinds=["area", "add"]), KINDS) == ("add", "area")
    assert resolve_kinds(section(exclude=["add"]), KINDS) == ("mean", "area")
    assert (
        resolve_kinds(section(styles={"default": "raw", "add": "raw"}, rounding={"decimals": {"default": 3}}), KINDS)
        == KINDS
    )
    with pytest.raises(RecipeError, match="no kind"):
        resolve_kinds(section(kinds=["add"], exclude=["add"]), KINDS)


@pytest.mark.parametrize("key", ["kinds", "exclude", "quota", "styles"])
def test_unknown_kinds_are_reported_with_the_most_similar_one(key: str) -> None:
    value: Any = {
        "quota": {"aera": 1, "zzz": 1},
        "styles": {"aera": "raw", "zzz": "raw"},
    }.get(key, ["aera", "zzz"])
    with pytest.raises(RecipeError) as caught:
        resolve_kinds(section(**{key: value}), KINDS)
    assert f"data.{key}: unknown kind 'aera'; did you mean area?" in str(caught.value)
    assert "'zzz'; known kinds are add, mean, area" in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("decimals", 1), ("significant_digits", 1), ("half", "up")])
def test_unknown_kinds_of_roundings_are_reported_with_the_most_similar_one(key: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_kinds(section(rounding={key: {"aera": value, "zzz": value}}), KINDS)
    assert f"data.rounding.{key}: unknown kind 'aera'; did you mean area?" in str(caught.value)
    assert "'zzz'; known kinds are add, mean, area" in str(caught.value)


def test_unknown_kinds_in_truncate_targets_are_reported() -> None:
    with pytest.raises(RecipeError, match=r"truncate_targets: .*'aera'"):
        resolve_kinds(section(), KINDS, {"aera": 0.5})


def test_each_row_takes_as_long_with_many_kinds() -> None:
    """A plan of 120,000 rows of 60,000 kinds compared each row with all kinds, several times, and did not end."""
    names = tuple(f"kind {number}" for number in range(60_000))
    settings = section(skill="text", columns={"kind": "k"}, kinds=names)
    with bounded_work():
        skill = Text.from_section(settings)
        rules = SelectionRules.from_section(settings, resolve_kinds(settings, skill.kinds), 0)
        selection = Selection(rules)
        for name in names:
            question = skill.parse("How much is 1 + 1?", "2", name)
            assert question is not None and question.kind == name in skill.free_text_kinds
            assert selection.can_select(name, b"")
    assert rules.kinds == names
