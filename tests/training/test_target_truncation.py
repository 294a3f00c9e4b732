"""Truncated targets: where they end, how often, and that the rest of the row does not change."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keeptune.data import solution_rendering as rewrite
from keeptune.training.batches import TokenizedExample
from keeptune.training.target_truncation import MIN_TARGET_TOKENS, truncate_target, truncated_row_tokens

NUMBER = st.integers(1, 5000)


def row(number: int, prompt: int, solution: int, kind: str = "function") -> TokenizedExample:
    loss_mask = (False,) * prompt + (True,) * solution
    return TokenizedExample(f"synth:{number}", kind, tuple(range(prompt + solution)), loss_mask)


@given(NUMBER, st.integers(1, 40), NUMBER, st.floats(0, 1), st.integers(0, 9))
def test_a_truncated_row_is_a_prefix_that_ends_in_its_solution(
    number: int, prompt: int, solution: int, share: float, seed: int
) -> None:
    whole = row(number, prompt, solution)
    part = truncate_target(whole, {"function": share}, seed)
    assert part.tokens == whole.tokens[: len(part.tokens)] and part.loss_mask == whole.loss_mask[: len(part.tokens)]
    assert min(solution, MIN_TARGET_TOKENS) <= sum(part.loss_mask) <= solution
    assert (part.name, part.kind) == (whole.name, whole.kind)


@given(NUMBER, NUMBER, st.floats(0, 1), st.integers(0, 9))
def test_the_estimate_equals_the_truncated_length(number: int, solution: int, share: float, seed: int) -> None:
    stored = rewrite.PreparedRow("id", "function", "", "", "1", "synth", number, 20, solution)
    trained = truncate_target(row(number, 20, solution), {"function": share}, seed)
    assert truncated_row_tokens(stored, {"function": share}, seed) == len(trained.tokens)


def test_other_kinds_are_not_truncated() -> None:
    rows = [row(number, 20, 3000, "power") for number in range(100)]
    assert [truncate_target(one, {"function": 1.0}, 7) for one in rows] == rows


def test_lengths_are_log_uniform() -> None:
    """With 6,000 rows, 5,400 are truncated, and 900 of these end in each of the six doublings from 64 to 4,096."""
    ends = [sum(truncate_target(row(number, 20, 4096), {"function": 0.9}, 7).loss_mask) for number in range(6000)]
    assert 510 < ends.count(4096) < 690
    doublings = Counter(int(math.log2(end / MIN_TARGET_TOKENS)) for end in ends if end < 4096)
    assert sorted(doublings) == list(range(6)) and all(780 < count < 1020 for count in doublings.values())


def test_seeds_differ_in_length() -> None:
    one, other = (
        [truncate_target(row(number, 20, 3000), {"function": 1.0}, seed) for number in range(20)] for seed in (1, 2)
    )
    assert one != other
