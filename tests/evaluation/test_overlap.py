"""Overlap is a common run of 13 words or Chinese characters, whatever their case and punctuation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation.overlap import NGRAM, NgramIndex, ngrams, texts_in

WORDS = [f"word{number}" for number in range(40)]
CHINESE = "青石镇的图书馆建于一九三四年由木匠出资修建馆里最初只有三百本书"


def overlap(item: str, text: str) -> bool:
    index = NgramIndex()
    index.add("item", item)
    found = index.overlapping([text])
    assert found in (set(), {"item"})
    return bool(found)


@pytest.mark.parametrize(
    ("item", "text", "shared"),
    [
        (" ".join(WORDS[:13]), " ".join(WORDS[:13]), True),
        (" ".join(WORDS[:12]), " ".join(WORDS[:12]), False),  # too short to overlap
        (" ".join(WORDS[:20]), " ".join(["before", *WORDS[4:17], "after"]), True),
        (" ".join(WORDS[:20]), " ".join(["before", *WORDS[4:16], "after"]), False),
        (" ".join(WORDS[:20]), " ".join([*WORDS[:12], "other", *WORDS[13:20]]), False),
        (" ".join(WORDS[:13]), " ".join(WORDS[:13]).upper(), True),
        (" ".join(WORDS[:13]), ",\n- ".join(WORDS[:13]) + "!", True),
        (" ".join(WORDS[:13]), "_".join(WORDS[:13]), True),
        (" ".join(WORDS[:13]), " ".join(reversed(WORDS[:13])), False),
        (CHINESE[:13], f"那个{CHINESE[:13]}了", True),
        (CHINESE[:12], CHINESE[:12], False),
        (CHINESE[:20], "，".join(CHINESE[3:16]), True),
        (f"{CHINESE[:6]} GPS 1934 {CHINESE[6:11]}", f"{CHINESE[:6]}gps1934{CHINESE[6:11]}", False),  # one word or two
        (f"{CHINESE[:6]}GPS{CHINESE[6:12]}", f"{CHINESE[:6]} gps {CHINESE[6:12]}", True),
        ("", "", False),
        ("...", " ".join(WORDS), False),
    ],
)
def test_by_hand(item: str, text: str, shared: bool) -> None:
    assert overlap(item, text) is shared
    assert overlap(text, item) is shared


def test_every_text_of_an_item_counts() -> None:
    index = NgramIndex()
    index.add("a", " ".join(WORDS[:13]))
    index.add("a", " ".join(WORDS[13:26]))
    index.add("b", " ".join(WORDS[13:27]))
    index.add("c", " ".join(WORDS[27:]))
    assert index.overlapping([" ".join(WORDS[13:26])]) == {"a", "b"}
    assert index.overlapping([" ".join(WORDS[:13]), " ".join(WORDS[27:])]) == {"a", "c"}
    assert index.overlapping([" ".join(WORDS[:12]), WORDS[12]]) == set()  # runs do not go over the end of a text
    assert index.overlapping([]) == set()


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ["a"]),
        (["a", ["b", {"k": "c"}]], ["a", "b", "c"]),
        ({"role": "user", "turns": ("x", "y"), "n": 3, "none": None, "yes": True}, ["user", "x", "y"]),
        (7, []),
        (None, []),
        ([], []),
    ],
)
def test_all_strings_of_a_value(value: Any, texts: list[str]) -> None:
    assert list(texts_in(value)) == texts


RUNS = st.lists(st.sampled_from(WORDS), min_size=NGRAM, max_size=30)


@given(RUNS, RUNS, RUNS, st.data())
def test_a_copied_run_is_always_found(
    item: list[str], before: list[str], after: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(item) - NGRAM))
    copied = item[start : start + NGRAM]
    assert overlap(" ".join(item), " ".join([*before, *copied, *after]))


@given(st.lists(st.sampled_from(WORDS[:5]), max_size=40), st.lists(st.sampled_from(WORDS[:5]), max_size=40))
def test_overlap_is_that_of_sets_of_runs(left: list[str], right: list[str]) -> None:
    runs = [{tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)} for words in (left, right)]
    assert overlap(" ".join(left), " ".join(right)) == bool(runs[0] & runs[1])


@given(st.text())
def test_any_text_can_be_indexed(text: str) -> None:
    assert len(list(ngrams(text))) <= max(0, len(text))
    if len(list(ngrams(text))):
        assert overlap(text, text)
