"""Openings: where a row's training stops, how often, and that nothing else of the row changes."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.solution_rendering import PreparedRow
from keeptune.training.batches import Example
from keeptune.training.target_truncation import SHORTEST_TOKENS, opened, row_tokens

NUMBER = st.integers(1, 5000)


def row(number: int, prompt: int, solution: int, kind: str = "function") -> Example:
    labelled = (False,) * prompt + (True,) * solution
    return Example(f"synth:{number}", kind, tuple(range(prompt + solution)), labelled)


@given(NUMBER, st.integers(1, 40), NUMBER, st.floats(0, 1), st.integers(0, 9))
def test_an_opening_is_the_row_up_to_a_place_in_its_solution(
    number: int, prompt: int, solution: int, share: float, seed: int
) -> None:
    whole = row(number, prompt, solution)
    part = opened(whole, {"function": share}, seed)
    assert part.tokens == whole.tokens[: len(part.tokens)] and part.labelled == whole.labelled[: len(part.tokens)]
    assert min(solution, SHORTEST_TOKENS) <= sum(part.labelled) <= solution
    assert (part.name, part.kind) == (whole.name, whole.kind)


@given(NUMBER, NUMBER, st.floats(0, 1), st.integers(0, 9))
def test_an_estimate_counts_what_is_trained(number: int, solution: int, share: float, seed: int) -> None:
    stored = PreparedRow("id", "function", "", "", "1", "synth", number, 20, solution)
    trained = opened(row(number, 20, solution), {"function": share}, seed)
    assert row_tokens(stored, {"function": share}, seed) == len(trained.tokens)


def test_other_kinds_are_trained_whole() -> None:
    rows = [row(number, 20, 3000, "power") for number in range(100)]
    assert [opened(one, {"function": 1.0}, 7) for one in rows] == rows


def test_as_many_stop_in_every_doubling_of_the_length() -> None:
    """4,096 tokens are six doublings of 64; of 6,000 rows, 5,400 are openings and 900 of these stop in each."""
    ends = [sum(opened(row(number, 20, 4096), {"function": 0.9}, 7).labelled) for number in range(6000)]
    assert 510 < ends.count(4096) < 690
    doublings = Counter(int(math.log2(end / SHORTEST_TOKENS)) for end in ends if end < 4096)
    assert sorted(doublings) == list(range(6)) and all(780 < count < 1020 for count in doublings.values())


def test_another_seed_stops_elsewhere() -> None:
    one, other = ([opened(row(number, 20, 3000), {"function": 1.0}, seed) for number in range(20)] for seed in (1, 2))
    assert one != other
