"""Near-duplicates follow the exact similarity, in any order; problems with different numbers are never grouped."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.near_duplicates import COMPARED_DIRECTLY, group_near_duplicates, group_representatives
from keeptune.data.normalization import normalize

LETTERS = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)

STORY = "Ada buys 12 red apples and 30 green ones at the market. How many apples does she carry home in the evening?"


def shingles(text: str) -> set[tuple[str, ...]]:
    """An independent implementation."""
    parts = normalize(text).split()
    return {tuple(parts[start : start + 3]) for start in range(max(1, len(parts) - 2))}


def exact_groups(texts: list[str], threshold: float) -> set[frozenset[int]]:
    """Connected components by pairwise comparison."""
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
    assert as_sets(group_near_duplicates(texts, threshold)) == exact_groups(texts, threshold)


@given(st.lists(LETTERS, max_size=12), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(texts: list[str], shuffler: random.Random) -> None:
    groups = dict(zip(texts, group_near_duplicates(texts, 0.5), strict=True))
    shuffler.shuffle(texts)
    assert group_near_duplicates(texts, 0.5) == [groups[text] for text in texts]
    assert sorted(set(groups.values())) == list(range(len(set(groups.values()))))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_signature_candidates_are_confirmed_and_few_pairs_are_missed(threshold: float) -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abcdefghijklmnop", k=30)) for _ in range(COMPARED_DIRECTLY)]
    for text in texts[:]:
        for changes in (1, 2, 4, 8):
            parts = text.split()
            for place in generator.sample(range(30), changes):
                parts[place] = "zz"
            texts.append(" ".join(parts))
    groups, expected = as_sets(group_near_duplicates(texts, threshold)), exact_groups(texts, threshold)
    assert all(any(group <= whole for whole in expected) for group in groups)
    assert len(groups) - len(expected) <= 0.02 * len(texts)
    shuffled = generator.sample(texts, k=len(texts))
    by_text = dict(zip(texts, group_near_duplicates(texts, threshold), strict=True))
    assert group_near_duplicates(shuffled, threshold) == [by_text[text] for text in shuffled]


def test_other_spellings_and_single_changed_words_are_near_duplicates() -> None:
    other_spelling = STORY.upper().replace(".", " !").replace("12", "12.0")
    other_word = STORY.replace("evening", "morning")
    assert len(set(group_near_duplicates([STORY, other_spelling, other_word], 0.8))) == 1
    assert len(set(group_near_duplicates([STORY, other_word], 0.99))) == 2


@pytest.mark.parametrize(
    ("one", "other"), [("12", "13"), ("12", "-12"), ("Ada buys", "Ada buys two"), ("red", "red + green"), ("30", "30%")]
)
def test_problems_with_different_numbers_are_not_grouped(one: str, other: str) -> None:
    assert len(set(group_near_duplicates([STORY, STORY.replace(one, other)], 0.1))) == 2


def test_chinese_is_compared_by_characters() -> None:
    text = "小明上午在图书馆看书，下午和同学一起去公园里打球，晚上回家写作业。"
    assert len(set(group_near_duplicates([text, text.replace("同学", "朋友")], 0.7))) == 1
    assert len(set(group_near_duplicates([text, text[::-1]], 0.1))) == 2


def test_a_representative_is_a_text_of_the_group_in_any_order() -> None:
    texts = [STORY, STORY.replace("evening", "morning"), "Another one."]
    groups = group_near_duplicates(texts, 0.8)
    result = group_representatives(texts, groups)
    assert result[0] == result[1] in texts[:2]
    assert result[2] == texts[2]
    assert group_representatives(texts[::-1], groups[::-1]) == result[::-1]


def test_no_texts() -> None:
    assert group_near_duplicates([], 0.8) == []
    assert group_near_duplicates(["", "?", "x"], 0.8)[:2] == [group_near_duplicates(["", "x"], 0.8)[0]] * 2
