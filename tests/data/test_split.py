"""Each duplicate group is in one split; the splits have the mix of kinds of the whole, in any order of the rows."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.data.normalization import extract_numbers
from keeptune.data.split import apportion, assign_ranges, split
from keeptune.errors import DataError

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1)


def problems(sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """Returns kinds and group keys. In kinds a to c, each problem is its own group; in the others, groups are pairs."""
    pairs = [
        (kind, f"{kind}{number if kind in 'abc' else number // 2}")
        for kind, size in sizes.items()
        for number in range(size)
    ]
    return [kind for kind, _ in pairs], [key for _, key in pairs]


@given(SIZES, st.data())
def test_largest_remainder(sizes: dict[str, int], data: st.DataObject) -> None:
    whole = sum(sizes.values())
    total = data.draw(st.integers(0, whole))
    shares = apportion(total, sizes, sizes)
    assert sum(shares.values()) == total
    assert all(abs(shares[kind] * whole - total * size) < whole for kind, size in sizes.items())


@given(SIZES, st.randoms(use_true_random=False), st.integers(), st.data())
def test_splits_are_disjoint_and_proportional(
    sizes: dict[str, int], shuffler: random.Random, seed: int, data: st.DataObject
) -> None:
    kinds, keys = problems(sizes)
    held_out = data.draw(st.integers(0, len(kinds) - len(sizes)))
    dev = data.draw(st.integers(0, held_out))
    parts = split(kinds, keys, dev, held_out - dev, seed)
    assert len(parts) == len(kinds)
    assert len(set(zip(keys, parts, strict=True))) == len(set(keys))
    trained = {kind for kind, part in zip(kinds, parts, strict=True) if part == "train"}
    assert trained == set(sizes)
    counts = Counter(parts)
    assert counts["dev"] <= dev
    assert counts["test"] <= held_out - dev
    if set(sizes) <= set("abc"):
        assert (counts["dev"], counts["test"]) == (dev, held_out - dev)
    part_of = dict(zip(keys, parts, strict=True))
    order = list(zip(kinds, keys, strict=True))
    shuffler.shuffle(order)
    again = split([kind for kind, _ in order], [key for _, key in order], dev, held_out - dev, seed)
    assert [part_of[key] for _, key in order] == again


def test_the_mix_of_kinds_is_preserved() -> None:
    kinds = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    parts = split(kinds, [str(number) for number in range(1000)], 100, 300, 1)
    assert Counter(zip(kinds, parts, strict=True)) == {
        ("a", "train"): 360, ("a", "dev"): 60, ("a", "test"): 180,
        ("b", "train"): 180, ("b", "dev"): 30, ("b", "test"): 90,
        ("c", "train"): 60, ("c", "dev"): 10, ("c", "test"): 30,
    }  # fmt: skip


def test_the_split_depends_on_the_seed() -> None:
    keys = [str(number) for number in range(1000)]
    assert split(["a"] * 1000, keys, 100, 300, 1) != split(["a"] * 1000, keys, 100, 300, 2)


def test_more_rows_of_one_kind_move_no_other_rows_into_test() -> None:
    few, many = (["a"] * size + ["b"] * 50 for size in (200, 250))
    test_names = []
    for kinds in (few, many):
        names = [f"{kind}{number}" for kind in "ab" for number in range(kinds.count(kind))]
        parts = split(kinds, names, 0, 60, 1)
        test_names.append({name for name, part in zip(names, parts, strict=True) if part == "test" and name[0] == "b"})
    assert test_names[1] < test_names[0]


@pytest.mark.parametrize(("kinds", "dev", "test"), [("ab", 0, 1), ("aaa", 1, 2), ("aaab", 2, 1)])
def test_a_kind_without_training_problems_is_an_error(kinds: str, dev: int, test: int) -> None:
    with pytest.raises(DataError, match=r"lower data\.split"):
        split(list(kinds), list(map(str, range(len(kinds)))), dev, test, 0)


def area(length: int, width: int) -> str:
    return f"一个长方形的长为 {length} 厘米，宽为 {width} 厘米，请计算其面积。"


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """Returns kinds, group keys and texts: rectangles, which can be turned, equations, which cannot, and free text."""
    sides = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=40, unique=True)
    rectangles = [("area", f"area {sorted(pair)}", area(*pair)) for pair in draw(sides)]
    equations = [("equation", text, text) for a, b in draw(sides) for text in [f"解方程 {a}x + {-b} = 0"]]
    words = [("word", text, text) for number in range(30) for text in [f"{chr(65 + number)} has {number} apples."]]
    problems = draw(st.permutations(rectangles + equations + words))
    return ([kind for kind, _, _ in problems], [key for _, key, _ in problems], [text for _, _, text in problems])


@settings(max_examples=30)
@given(grids(), st.integers(0, 9), st.integers(1, 12), st.integers(), st.randoms(use_true_random=False))
def test_no_held_out_range_is_trained_on(
    problems: tuple[list[str], list[str], list[str]], dev: int, test: int, seed: int, shuffler: random.Random
) -> None:
    kinds, keys, texts = problems
    parts = split(kinds, keys, dev, test, seed, "range", texts)
    counts = Counter(parts)
    # A rectangle and the same one turned are in one split, so one place can remain empty.
    assert dev - 1 <= counts["dev"] <= dev
    assert test - 1 <= counts["test"] <= test
    assert {kind for kind, part in zip(kinds, parts, strict=True) if part == "train"} == set(kinds)
    assigned = {(key, part) for key, part in zip(keys, parts, strict=True) if part}
    assert max(Counter(key for key, _ in assigned).values()) == 1
    for kind in ("area", "equation"):
        members = [index for index, other in enumerate(kinds) if other == kind]
        trained, held_out = ({extract_numbers(texts[i]) for i in members if (parts[i] == "train") == is_trained}
                         for is_trained in (True, False))  # fmt: skip
        turned = {numbers[::-1] for numbers in held_out} if kind == "area" else set()
        # Every held-out problem has a value that does not occur in training, or is a turned rectangle with one.
        position = range_position([texts[index] for index in members])
        missing = {numbers[position] for numbers in held_out} - {numbers[position] for numbers in trained}
        assert all(numbers[position] in missing for numbers in held_out - turned)
        assert all(numbers[position] in missing or numbers[::-1][position] in missing for numbers in held_out)
    assert None not in {part for kind, part in zip(kinds, parts, strict=True) if kind == "word"}
    by_text = dict(zip(texts, parts, strict=True))
    order = list(zip(kinds, keys, texts, strict=True))
    shuffler.shuffle(order)
    again = split(
        *map(list, list(zip(*order, strict=True))[:2]), dev, test, seed, "range", [text for *_, text in order]
    )
    assert again == [by_text[text] for *_, text in order]


def range_position(texts: list[str]) -> int:
    numbers = [extract_numbers(text) for text in texts]
    return max(range(2), key=lambda position: len({values[position] for values in numbers}))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1), st.integers(1, 20))
def test_ranges_are_contiguous_and_similar_in_size(pairs: list[tuple[int, int]], ranges: int) -> None:
    texts = [f"解方程 {a}x + {b} = 0" for a, b in pairs]
    groups = assign_ranges(texts, ranges)
    position = range_position(texts)
    by_value = sorted((extract_numbers(text)[position], group) for text, group in zip(texts, groups, strict=True))
    in_order = [group for _, group in by_value]
    assert in_order == sorted(in_order)
    assert len(set(by_value)) == len({value for value, _ in by_value})
    assert max(in_order) < ranges
    largest = max(Counter(value for value, _ in by_value).values())
    assert max(Counter(groups).values()) <= -(-len(texts) // ranges) + largest


def test_texts_without_numbers_are_in_one_range() -> None:
    assert assign_ranges(["a 1", "b"], 5) == [0, 0]
    assert assign_ranges([], 5) == []


def test_a_range_split_holds_out_whole_values_and_drops_the_surplus() -> None:
    texts = [area(length, width) for length in range(1, 101) for width in range(1, 11)]
    parts = split(["area"] * 1000, texts, 5, 15, 1, "range", texts)
    assert Counter(parts) == {"train": 960, "test": 15, "dev": 5, None: 20}
    held_out = {extract_numbers(text)[0] for text, part in zip(texts, parts, strict=True) if part != "train"}
    assert len(held_out) == 4
    assert held_out.isdisjoint(
        extract_numbers(text)[0] for text, part in zip(texts, parts, strict=True) if part == "train"
    )


def test_no_training_problem_outside_the_ranges_is_an_error() -> None:
    texts = [area(5, width) for width in (5, 5)] + [area(number, number) for number in range(5, 7)]
    with pytest.raises(DataError, match="no training problem of area"):
        split(["area"] * 4, ["same"] * 4, 0, 1, 0, "range", texts)


def test_duplicate_groups_across_kinds_stay_together() -> None:
    kinds = ["a", "b"] * 30
    keys = [str(number // 3) for number in range(60)]
    parts = split(kinds, keys, 6, 12, 0)
    assert len(set(zip(keys, parts, strict=True))) == 20
    reversed_parts = split(kinds[::-1], keys[::-1], 6, 12, 0)
    assert reversed_parts == parts[::-1]
    assert Counter(parts)["test"] <= 12
