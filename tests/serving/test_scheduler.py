"""Admission of waiting requests: one model at a time, in order of arrival, and every request in the end."""

from hypothesis import given
from hypothesis import strategies as st

from keeptune.serving.scheduler import select_admissions

Waiting = tuple[str, int]


def select(waiting: list[Waiting], free: int, max_tokens: int = 100) -> list[Waiting]:
    return select_admissions(waiting, free, lambda one: one[0], lambda one: one[1], max_tokens)


def test_all_of_the_first_model_are_admitted_in_order() -> None:
    waiting = [("tuned", 10), ("base", 20), ("tuned", 30), ("base", 40)]
    assert select(waiting, 9) == [("tuned", 10), ("tuned", 30)]
    assert select(waiting[1:], 9) == [("base", 20), ("base", 40)]


def test_slots_and_tokens_limit_the_admission() -> None:
    waiting = [("base", 40)] * 5
    assert len(select(waiting, 9)) == 2
    assert len(select(waiting, 1)) == 1
    assert select(waiting, 0) == []


def test_one_long_prompt_is_admitted_alone() -> None:
    assert select([("base", 500), ("base", 1)], 9) == [("base", 500)]


@given(st.lists(st.tuples(st.sampled_from(["base", "tuned", "tuned@0.5"]), st.integers(1, 200)), max_size=20))
def test_every_request_is_admitted_in_the_end(waiting: list[Waiting]) -> None:
    rest, rounds = list(waiting), 0
    while rest:
        first = rest[0]
        selected = select(rest, 3)
        assert selected[0] is first
        for request in selected:
            rest.remove(request)
        rounds += 1
    assert rounds <= len(waiting)
