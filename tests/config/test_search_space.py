"""What a sweep varies is read as a user means it, and what cannot be meant is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.search_space import Categorical, Range, parse, settings
from keeptune.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.learning_rate=3e-4..3e-3", Range("train.learning_rate", 3e-4, 3e-3, is_integer=False)),
        ("adapter.rank=4..64", Range("adapter.rank", 4, 64, is_integer=True)),
        ("retain.replay_share=0..0.3", Range("retain.replay_share", 0, 0.3, is_integer=False)),
        ("adapter.rank=4,8, 16,8", Categorical("adapter.rank", ("4", "8", "16"))),
        ("adapter.targets=attention-qv,all-linear", Categorical("adapter.targets", ("attention-qv", "all-linear"))),
    ],
)
def test_reading(text: str, expected: Range | Categorical) -> None:
    assert parse(text) == expected


def test_only_wide_positive_ranges_are_logarithmic() -> None:
    drawn = [parse(f"a={ends}") for ends in ("3e-4..3e-3", "1..9", "0..0.3", "-1..100")]
    assert [isinstance(vary, Range) and vary.is_logarithmic for vary in drawn] == [True, False, False, False]


@pytest.mark.parametrize("text", ["", "a", "a=", "=1,2", "a=3..1", "a=2..2", "a=7", "a=7,7"])
def test_an_invalid_search_space_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--vary"):
        parse(text)


@given(st.floats(1e-6, 1e6), st.integers(-50, 50))
def test_settings_are_what_set_takes(rate: float, rank: int) -> None:
    varied = (Range("a.b", 0, 1, is_integer=False), Range("c", -50, 50, is_integer=True), Categorical("d", ("x", "y")))
    first, second, third = settings(varied, {"a.b": rate, "c": rank, "d": "y"})
    assert first.startswith("a.b=") and abs(float(first[4:]) / rate - 1) < 1e-3
    assert (second, third) == (f"c={rank}", "d=y")


def test_the_stored_form_of_a_dimension_does_not_change() -> None:
    """varied.json holds it: a sweep of an earlier version resumes only with the same text."""
    assert str(parse("adapter.rank=4,8")) == "Choices(key='adapter.rank', values=('4', '8'))"
    assert str(parse("a.b=1..20")) == "Range(key='a.b', low=1.0, high=20.0, whole=True)"
