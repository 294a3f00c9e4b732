"""No problem, and no twin of it, is in two parts; the parts have the mix of the whole, in any order of the rows."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.split import apportion, split
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
