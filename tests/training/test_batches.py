"""The plan of a training: every row once an epoch, within its budgets, decided by the seed alone, hardly padded."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.training.batches import PADDED_SHARE, WINDOW_STEPS, Batch, Example, padded_share, rows_sha256, steps

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=120)
SEED = st.integers(0, 5)


def rows(planned: list[list[Batch]]) -> list[int]:
    return [row for step in planned for batch in step for row in batch]


@given(LENGTHS, st.integers(1, 400), st.integers(1, 600), st.integers(1, 3), SEED)
def test_every_row_comes_once_an_epoch(
    lengths: list[int], per_step: int, per_batch: int, epochs: int, seed: int
) -> None:
    order = rows(steps(lengths, per_step, per_batch, epochs, seed))
    assert len(order) == epochs * len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 400), st.integers(1, 600), SEED)
def test_budgets_are_kept(lengths: list[int], per_step: int, per_batch: int, seed: int) -> None:
    planned = steps(lengths, per_step, per_batch, 1, seed)
    for batch in (batch for step in planned for batch in step):
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= per_batch
    useful = [sum(lengths[row] for row in rows([step])) for step in planned]
    assert all(size < per_step + max(per_batch, *lengths, 0) for size in useful)
    # A window holds at least WINDOW_STEPS steps' worth of tokens, but for the last; only its last step may be short.
    windows = sum(lengths) // (WINDOW_STEPS * per_step) + 1
    assert sum(size < per_step for size in useful) <= windows
    assert all(planned) and all(batch for step in planned for batch in step)


@given(LENGTHS, st.floats(0.01, 0.99), st.integers(0, 2), SEED)
def test_a_part_of_an_epoch_is_a_part_of_the_rows(lengths: list[int], rest: float, whole: int, seed: int) -> None:
    counts = Counter(rows(steps(lengths, 100, 200, whole + rest, seed)))
    wanted = whole * len(lengths) + max(1, rest * len(lengths))
    assert counts.total() == pytest.approx(wanted, abs=0.51)
    assert set(counts.values()) <= {whole, whole + 1}


@given(LENGTHS, SEED)
def test_the_plan_follows_from_the_seed(lengths: list[int], seed: int) -> None:
    planned = steps(lengths, 100, 200, 2, seed)
    random.seed(seed + 1)  # the global generator has no say
    assert steps(lengths, 100, 200, 2, seed) == planned


def test_another_seed_and_another_epoch_have_another_order() -> None:
    lengths = [50] * 60
    first, second = (rows(steps(lengths, 200, 200, 2, seed)) for seed in (0, 1))
    assert first != second
    assert first[:60] != first[60:]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200), st.integers(1, 4000), st.integers(1, 16_000), SEED)
def test_hardly_anything_is_padded(lengths: list[int], per_step: int, per_batch: int, seed: int) -> None:
    assert padded_share(steps(lengths, per_step, per_batch, 1, seed), lengths) <= PADDED_SHARE


def test_batches_are_cut_no_smaller_than_that_takes() -> None:
    assert sum(map(len, steps([100] * 300 + [103] * 300, 4096, 1030, 1, 0))) < 64
    generator = random.Random(0)
    lengths = [generator.randrange(40, 400) for _ in range(2000)]
    batches = sum(map(len, steps(lengths, 2048, 2048, 1, seed=0)))
    assert sum(lengths) / batches > 0.7 * 2048
    assert padded_share(steps(lengths, 2048, 1024, 1, seed=0), lengths) < 0.02


def test_the_padded_share_is_that_of_all_tokens() -> None:
    assert padded_share([[(row,) for row in range(9)]], [*range(1, 10)]) == 0
    assert padded_share([[(0, 1)]], [10, 30]) == pytest.approx(1 / 3)
    assert padded_share([], []) == 0


def test_a_step_mixes_lengths_where_a_batch_is_smaller_than_a_step() -> None:
    generator = random.Random(0)
    lengths = [generator.randrange(40, 400) for _ in range(2000)]
    planned = steps(lengths, 4096, 1024, 1, seed=0)
    spread = [max(lengths[row] for row in rows([step])) - min(lengths[row] for row in rows([step])) for step in planned]
    assert sorted(spread)[len(spread) // 2] > 100


def test_rows_are_known_by_tokens_and_by_what_is_learnt() -> None:
    def row(tokens: tuple[int, ...], prompt: int = 1) -> Example:
        return Example("a:1", "add", tokens, (False,) * prompt + (True,) * (len(tokens) - prompt))

    rows = [row((5, 6, 7)), row((8, 9))]
    assert rows_sha256(rows) == rows_sha256(list(rows))
    others = [
        rows[::-1],
        rows[:1],
        [row((5, 6, 7), 2), rows[1]],
        [row((5, 6)), row((7, 8, 9))],
        [row((5, 6, 1)), rows[1]],
    ]
    assert len({rows_sha256(other) for other in (rows, *others)}) == 6
