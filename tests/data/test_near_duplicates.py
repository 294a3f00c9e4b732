"""Near-duplicates are what the exact similarity says, in any order; other numbers make another problem."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.near_duplicates import COMPARED_DIRECTLY, near_groups, representatives
from keeptune.data.normalization import normalised

LETTERS = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)

STORY = "Ada buys 12 red apples and 30 green ones at the market. How many apples does she carry home in the evening?"


def shingles(text: str) -> set[tuple[str, ...]]:
    """Written apart from the code under test."""
    parts = normalised(text).split()
    return {tuple(parts[start : start + 3]) for start in range(max(1, len(parts) - 2))}


def exact_groups(texts: list[str], threshold: float) -> set[frozenset[int]]:
    """Connected components, by comparing each with each."""
    groups = [{index} for index in range(len(texts))]
    for one in range(len(texts)):
        for other in range(one):
            common, whole = (op(shingles(texts[one]), shingles(texts[other])) for op in (set.__and__, set.__or__))
            if len(common) >= threshold * len(whole) and groups[one] is not groups[other]:
                groups[one] |= groups[other]
                for index in groups[one]:
                    groups[index] = groups[one]
    return set(map(frozenset, groups))


def as_sets(groups: list[int]) -> set[frozenset[int]]:
    members: dict[int, set[int]] = defaultdict(set)
    for index, group in enumerate(groups):
        members[group].add(index)
    return set(map(frozenset, members.values()))


@given(st.lists(LETTERS, max_size=12), st.sampled_from([0.2, 0.5, 0.75, 1.0]))
def test_groups_are_the_components_of_exact_similarity(texts: list[str], threshold: float) -> None:
    assert as_sets(near_groups(texts, threshold)) == exact_groups(texts, threshold)


@given(st.lists(LETTERS, max_size=12), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(texts: list[str], shuffler: random.Random) -> None:
    groups = dict(zip(texts, near_groups(texts, 0.5), strict=True))
    shuffler.shuffle(texts)
    assert near_groups(texts, 0.5) == [groups[text] for text in texts]
    assert sorted(set(groups.values())) == list(range(len(set(groups.values()))))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_what_is_proposed_by_signatures_is_confirmed_and_hardly_anything_is_missed(threshold: float) -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abcdefghijklmnop", k=30)) for _ in range(COMPARED_DIRECTLY)]
    for text in texts[:]:
        for changes in (1, 2, 4, 8):
            parts = text.split()
            for place in generator.sample(range(30), changes):
                parts[place] = "zz"
            texts.append(" ".join(parts))
    found, expected = as_sets(near_groups(texts, threshold)), exact_groups(texts, threshold)
    assert all(any(group <= whole for whole in expected) for group in found)
    assert len(found) - len(expected) <= 0.02 * len(texts)
    shuffled = generator.sample(texts, k=len(texts))
    by_text = dict(zip(texts, near_groups(texts, threshold), strict=True))
    assert near_groups(shuffled, threshold) == [by_text[text] for text in shuffled]


def test_other_spellings_and_single_words_are_near() -> None:
    other_spelling = STORY.upper().replace(".", " !").replace("12", "12.0")
    other_word = STORY.replace("evening", "morning")
    assert len(set(near_groups([STORY, other_spelling, other_word], 0.8))) == 1
    assert len(set(near_groups([STORY, other_word], 0.99))) == 2


@pytest.mark.parametrize(
    ("one", "other"), [("12", "13"), ("12", "-12"), ("Ada buys", "Ada buys two"), ("red", "red + green"), ("30", "30%")]
)
def test_other_numbers_make_another_problem(one: str, other: str) -> None:
    assert len(set(near_groups([STORY, STORY.replace(one, other)], 0.1))) == 2


def test_chinese_is_compared_by_characters() -> None:
    text = "小明上午在图书馆看书，下午和同学一起去公园里打球，晚上回家写作业。"
    assert len(set(near_groups([text, text.replace("同学", "朋友")], 0.7))) == 1
    assert len(set(near_groups([text, text[::-1]], 0.1))) == 2


def test_a_group_is_represented_by_one_of_its_texts_in_any_order() -> None:
    texts = [STORY, STORY.replace("evening", "morning"), "Another one."]
    groups = near_groups(texts, 0.8)
    chosen = representatives(texts, groups)
    assert chosen[0] == chosen[1] in texts[:2]
    assert chosen[2] == texts[2]
    assert representatives(texts[::-1], groups[::-1]) == chosen[::-1]


def test_no_texts() -> None:
    assert near_groups([], 0.8) == []
    assert near_groups(["", "?", "x"], 0.8)[:2] == [near_groups(["", "x"], 0.8)[0]] * 2
