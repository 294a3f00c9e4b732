"""No problem, and no twin of it, is in two parts; the parts have the mix of the whole, in any order of the rows."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.data.normalization import operands
from keeptune.data.split import apportion, range_groups, split
from keeptune.errors import DataError

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1)


def problems(sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """Kinds and twins: in kinds a to c every problem is alone, in the others they come in pairs."""
    pairs = [
        (kind, f"{kind}{number if kind in 'abc' else number // 2}")
        for kind, size in sizes.items()
        for number in range(size)
    ]
    return [kind for kind, _ in pairs], [twin for _, twin in pairs]


@given(SIZES, st.data())
def test_largest_remainder(sizes: dict[str, int], data: st.DataObject) -> None:
    whole = sum(sizes.values())
    total = data.draw(st.integers(0, whole))
    shares = apportion(total, sizes, sizes)
    assert sum(shares.values()) == total
    assert all(abs(shares[kind] * whole - total * size) < whole for kind, size in sizes.items())


@given(SIZES, st.randoms(use_true_random=False), st.integers(), st.data())
def test_parts_are_apart_and_in_proportion(
    sizes: dict[str, int], shuffler: random.Random, seed: int, data: st.DataObject
) -> None:
    kinds, twins = problems(sizes)
    held = data.draw(st.integers(0, len(kinds) - len(sizes)))
    dev = data.draw(st.integers(0, held))
    parts = split(kinds, twins, dev, held - dev, seed)
    assert len(parts) == len(kinds)
    assert len({(twin, part) for twin, part in zip(twins, parts, strict=True)}) == len(set(twins))
    trained = {kind for kind, part in zip(kinds, parts, strict=True) if part == "train"}
    assert trained == set(sizes)
    counts = Counter(parts)
    assert counts["dev"] <= dev
    assert counts["test"] <= held - dev
    if set(sizes) <= set("abc"):
        assert (counts["dev"], counts["test"]) == (dev, held - dev)
    by_twin = dict(zip(twins, parts, strict=True))
    order = list(zip(kinds, twins, strict=True))
    shuffler.shuffle(order)
    again = split([kind for kind, _ in order], [twin for _, twin in order], dev, held - dev, seed)
    assert [by_twin[twin] for _, twin in order] == again


def test_the_mix_is_kept() -> None:
    kinds = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    parts = split(kinds, [str(number) for number in range(1000)], 100, 300, 1)
    assert Counter(zip(kinds, parts, strict=True)) == {
        ("a", "train"): 360, ("a", "dev"): 60, ("a", "test"): 180,
        ("b", "train"): 180, ("b", "dev"): 30, ("b", "test"): 90,
        ("c", "train"): 60, ("c", "dev"): 10, ("c", "test"): 30,
    }  # fmt: skip


def test_the_seed_decides() -> None:
    twins = [str(number) for number in range(1000)]
    assert split(["a"] * 1000, twins, 100, 300, 1) != split(["a"] * 1000, twins, 100, 300, 2)


def test_more_of_one_kind_leaves_the_held_back_of_another() -> None:
    few, many = (["a"] * size + ["b"] * 50 for size in (200, 250))
    held = []
    for kinds in (few, many):
        names = [f"{kind}{number}" for kind in "ab" for number in range(kinds.count(kind))]
        parts = split(kinds, names, 0, 60, 1)
        held.append({name for name, part in zip(names, parts, strict=True) if part == "test" and name[0] == "b"})
    assert held[1] < held[0]


@pytest.mark.parametrize(("kinds", "dev", "test"), [("ab", 0, 1), ("aaa", 1, 2), ("aaab", 2, 1)])
def test_nothing_left_to_train_on_is_an_error(kinds: str, dev: int, test: int) -> None:
    with pytest.raises(DataError, match=r"lower data\.split"):
        split(list(kinds), list(map(str, range(len(kinds)))), dev, test, 0)


def area(length: int, width: int) -> str:
    return f"一个长方形的长为 {length} 厘米，宽为 {width} 厘米，请计算其面积。"


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """Kinds, twins and texts: rectangles that can be turned, equations that cannot, and free text."""
    sides = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=40, unique=True)
    rectangles = [("area", f"area {sorted(pair)}", area(*pair)) for pair in draw(sides)]
    equations = [("equation", text, text) for a, b in draw(sides) for text in [f"解方程 {a}x + {-b} = 0"]]
    words = [("word", text, text) for number in range(30) for text in [f"{chr(65 + number)} has {number} apples."]]
    problems = draw(st.permutations(rectangles + equations + words))
    return ([kind for kind, _, _ in problems], [twin for _, twin, _ in problems], [text for _, _, text in problems])


@settings(max_examples=30)
@given(grids(), st.integers(0, 9), st.integers(1, 12), st.integers(), st.randoms(use_true_random=False))
def test_no_held_range_is_trained_on(
    problems: tuple[list[str], list[str], list[str]], dev: int, test: int, seed: int, shuffler: random.Random
) -> None:
    kinds, twins, texts = problems
    parts = split(kinds, twins, dev, test, seed, "range", texts)
    counts = Counter(parts)
    # A rectangle and the same one turned may not be parted, so that one place can stay empty.
    assert dev - 1 <= counts["dev"] <= dev
    assert test - 1 <= counts["test"] <= test
    assert {kind for kind, part in zip(kinds, parts, strict=True) if part == "train"} == set(kinds)
    placed = Counter({(twin, part) for twin, part in zip(twins, parts, strict=True) if part})
    assert max(Counter(twin for twin, _ in placed).values()) == 1
    for kind in ("area", "equation"):
        members = [index for index, other in enumerate(kinds) if other == kind]
        trained, held = ({operands(texts[i]) for i in members if (parts[i] == "train") == is_trained}
                         for is_trained in (True, False))  # fmt: skip
        turned = {numbers[::-1] for numbers in held} if kind == "area" else set()
        # The values that are missing from training altogether explain all that is held back.
        position = range_position([texts[index] for index in members])
        gone = {numbers[position] for numbers in held} - {numbers[position] for numbers in trained}
        assert all(numbers[position] in gone for numbers in held - turned)
        assert all(numbers[position] in gone or numbers[::-1][position] in gone for numbers in held)
    assert None not in {part for kind, part in zip(kinds, parts, strict=True) if kind == "word"}
    by_text = dict(zip(texts, parts, strict=True))
    order = list(zip(kinds, twins, texts, strict=True))
    shuffler.shuffle(order)
    again = split(
        *map(list, list(zip(*order, strict=True))[:2]), dev, test, seed, "range", [text for *_, text in order]
    )
    assert again == [by_text[text] for *_, text in order]


def range_position(texts: list[str]) -> int:
    numbers = [operands(text) for text in texts]
    return max(range(2), key=lambda position: len({values[position] for values in numbers}))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1), st.integers(1, 20))
def test_ranges_are_contiguous_and_alike_in_size(pairs: list[tuple[int, int]], ranges: int) -> None:
    texts = [f"解方程 {a}x + {b} = 0" for a, b in pairs]
    groups = range_groups(texts, ranges)
    position = range_position(texts)
    by_value = sorted((operands(text)[position], group) for text, group in zip(texts, groups, strict=True))
    in_order = [group for _, group in by_value]
    assert in_order == sorted(in_order)
    assert len(set(by_value)) == len({value for value, _ in by_value})
    assert max(in_order) < ranges
    largest = max(Counter(value for value, _ in by_value).values())
    assert max(Counter(groups).values()) <= -(-len(texts) // ranges) + largest


def test_texts_without_numbers_are_in_one_range() -> None:
    assert range_groups(["a 1", "b"], 5) == [0, 0]
    assert range_groups([], 5) == []


def test_a_range_holds_whole_numbers_back_and_drops_what_is_too_much() -> None:
    texts = [area(length, width) for length in range(1, 101) for width in range(1, 11)]
    parts = split(["area"] * 1000, texts, 5, 15, 1, "range", texts)
    assert Counter(parts) == {"train": 960, "test": 15, "dev": 5, None: 20}
    held = {operands(text)[0] for text, part in zip(texts, parts, strict=True) if part != "train"}
    assert len(held) == 4
    assert held.isdisjoint(operands(text)[0] for text, part in zip(texts, parts, strict=True) if part == "train")


def test_nothing_left_outside_the_ranges_is_an_error() -> None:
    texts = [area(5, width) for width in (5, 5)] + [area(number, number) for number in range(5, 7)]
    with pytest.raises(DataError, match=r"by = range leaves no problem of area to train on"):
        split(["area"] * 4, ["same"] * 4, 0, 1, 0, "range", texts)


def test_near_duplicates_given_as_twins_stay_together_even_across_kinds() -> None:
    kinds = ["a", "b"] * 30
    twins = [str(number // 3) for number in range(60)]
    parts = split(kinds, twins, 6, 12, 0)
    assert len(set(zip(twins, parts, strict=True))) == 20
    backwards = split(kinds[::-1], twins[::-1], 6, 12, 0)
    assert backwards == parts[::-1]
    assert Counter(parts)["test"] <= 12
