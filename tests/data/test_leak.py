"""Thirteen words in a row give a text away; twelve do not."""

from keeptune.data.leak import overlapping, shared_problems

PASSAGE = "One two three, four five six: seven eight NINE ten eleven twelve thirteen fourteen."
WORDS = PASSAGE.rstrip(".").lower().split()


def test_thirteen_words_in_a_row() -> None:
    assert overlapping([" ".join(WORDS[1:14])], [PASSAGE]) == 1
    assert overlapping([f"Before. {PASSAGE.upper()} After.", "nothing", PASSAGE], ["other text", PASSAGE]) == 2


def test_twelve_words_or_another_order_are_no_overlap() -> None:
    rows = [" ".join(WORDS[:12]), " ".join([*WORDS[:12], "between", *WORDS[12:]]), " ".join(reversed(WORDS)), ""]
    assert overlapping(rows, [PASSAGE]) == 0
    assert overlapping([PASSAGE], []) == 0


def test_shared_problems() -> None:
    assert shared_problems(["a", "b"], ["c"], ["b", "d"], ["d"]) == {"b", "d"}
    assert shared_problems(["a", "a"], ["b"]) == set()
