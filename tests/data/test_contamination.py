"""Thirteen consecutive words are an overlap; twelve are not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.contamination import (
    GRAM_WORDS,
    ContaminationFilter,
    ContaminationReport,
    Problem,
    count_overlap_by_kind,
    count_shared_by_kind,
    find_shared_keys,
    report_contamination,
)
from keeptune.data.normalization import split_words

PASSAGE = "One two three, four five six: seven eight NINE ten eleven twelve thirteen fourteen."
WORDS = PASSAGE.rstrip(".").lower().split()


def overlapping(rows: list[str], known: list[str]) -> int:
    return sum(count_overlap_by_kind([("word", row) for row in rows], known).values())


def test_thirteen_consecutive_words_are_an_overlap() -> None:
    assert overlapping([" ".join(WORDS[1:14])], [PASSAGE]) == 1
    assert overlapping([f"Before. {PASSAGE.upper()} After.", "nothing", PASSAGE], ["other text", PASSAGE]) == 2


def test_twelve_words_or_another_order_are_not_an_overlap() -> None:
    rows = [" ".join(WORDS[:12]), " ".join([*WORDS[:12], "between", *WORDS[12:]]), " ".join(reversed(WORDS)), ""]
    assert overlapping(rows, [PASSAGE]) == 0
    assert overlapping([PASSAGE], []) == 0


def test_keys_in_several_groups_are_found() -> None:
    assert find_shared_keys(["a", "b"], ["c"], ["b", "d"], ["d"]) == {"b", "d"}
    assert find_shared_keys(["a", "a"], ["b"]) == set()


TEXTS = st.lists(st.lists(st.sampled_from("ab"), max_size=40).map(" ".join), max_size=6)


def overlaps(one: str, other: str) -> bool:
    """An independent implementation."""
    return any(
        one.split()[start : start + GRAM_WORDS] == other.split()[place : place + GRAM_WORDS]
        for start in range(len(one.split()) - GRAM_WORDS + 1)
        for place in range(len(other.split()) - GRAM_WORDS + 1)
    )


@given(TEXTS, TEXTS)
def test_rows_are_counted_by_kind(rows: list[str], known: list[str]) -> None:
    pairs = [("even" if place % 2 == 0 else "odd", row) for place, row in enumerate(rows)]
    expected = Counter(kind for kind, row in pairs if any(overlaps(row, text) for text in known))
    assert count_overlap_by_kind(pairs, known) == expected
    assert count_overlap_by_kind(reversed(pairs), reversed(known)) == expected


@given(TEXTS, TEXTS)
def test_overlap_is_symmetric(some: list[str], others: list[str]) -> None:
    assert bool(overlapping(some, others)) == bool(overlapping(others, some))


def test_numbers_and_full_width_forms_do_not_hide_an_overlap() -> None:
    row = "Ａda has 5.0 apples and 1,000 pears, and she sells them at a very good price."
    assert overlapping([row], ["ada has 5 apples and 1000 pears and she sells them at a very good price"]) == 1


@given(
    st.lists(st.sampled_from(["ada", "Ａda", "x2", "5", "is", "don't", "x²", "河", "-", "√"]), max_size=30), st.data()
)
def test_the_fast_check_misses_no_overlap(known: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.sampled_from([*known, "ada", "5", "is"]), max_size=30), max_size=5))
    texts = [" ".join(row) for row in rows]
    passage = split_words(" ".join(known))
    grams = {tuple(passage[start : start + GRAM_WORDS]) for start in range(len(passage) - GRAM_WORDS + 1)}
    expected = 0
    for text in texts:
        row_words = split_words(text)
        expected += any(tuple(row_words[start : start + GRAM_WORDS]) in grams for start in range(len(row_words)))
    assert overlapping(texts, [" ".join(known)]) == expected


def test_chinese_characters_count_as_words() -> None:
    passage = "这条河发源于一片古老的山毛榉树林，流经九座磨坊之后汇入大海。"
    assert overlapping(["请问：这条河发源于一片古老的山毛榉吗？"], [passage]) == 1
    assert overlapping(["请问：这条河发源于一片古老的山吗？"], [passage]) == 0


def test_shared_keys_are_counted_by_kind() -> None:
    rows = [("add", "a"), ("add", "b"), ("mean", "c"), ("area", "a")]
    assert count_shared_by_kind(rows, ["a", "c", "d"]) == {"add": 1, "area": 1, "mean": 1}
    assert count_shared_by_kind(rows, []) == {}


def test_the_report_counts_all_types_of_overlap() -> None:
    story = "{} walks to the old market behind the river in the early morning and there buys {} red apples."
    train = [
        Problem("word", story.format("Ada", 5), "1"),
        Problem("word", "How many sides has a cube?", "2"),
        Problem("area", "一个长方形的长为 3 厘米，宽为 4 厘米，请计算其面积。", "area 3 4"),
        Problem("area", "一个长方形的长为 3 厘米，宽为 5 厘米，请计算其面积。", "area 3 5"),
    ]
    held = [
        Problem("word", story.format("Ben", 7), "3"),
        Problem("area", "一个长方形的长为 5 厘米，宽为 3 厘米，请计算其面积。", "area 3 5"),
    ]
    assert report_contamination(train, held, {"word"}, {"word": 1}) == ContaminationReport(
        retained_overlap=1,
        retained_overlap_by_kind={"word": 1},
        held_overlap_by_kind={"word": 1},
        held_twins_by_kind={"area": 1},
    )
    assert report_contamination(train, [], {"word"}, {}) == ContaminationReport(0)


def test_the_filter_returns_the_closest_match() -> None:
    forbidden = [Problem("add", "计算 1 + 2 等于多少？", "add 1 2"), Problem("word", PASSAGE, "p")]
    problems = [
        Problem("add", "计算 1 + 2 等于多少？", "add 1 2"),
        Problem("add", "计算 1.0 + 2 等于多少?", "add 1.0 2"),
        Problem("add", "计算 2 + 1 等于多少？", "add 1 2"),
        Problem("add", "计算 2 + 3 等于多少？", "add 2 3"),
        Problem("word", f"He counts: {' '.join(WORDS[:13])}, and stops.", "q"),
        Problem("templated", f"He counts: {' '.join(WORDS[:13])}, and stops.", "q"),
    ]
    expected = ["exact", "spelling", "canonical_form", None, "overlap", None]
    for known, matches in ((forbidden, expected), (forbidden[::-1], expected), ([], [None] * 6)):
        contamination_filter = ContaminationFilter(known, {"word"})
        assert [contamination_filter.match(problem) for problem in problems] == matches
