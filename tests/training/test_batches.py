"""The plan of a training: each epoch has every row once, limits hold, the seed decides, and padding is low."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.training.batches import (
    MAX_PADDING_SHARE,
    Batch,
    TokenizedExample,
    padding_share,
    plan_steps,
    rows_sha256,
)

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=120)
SEED = st.integers(0, 5)


def rows(planned: list[list[Batch]]) -> list[int]:
    return [row for step in planned for batch in step for row in batch]


@given(LENGTHS, st.integers(1, 400), st.integers(1, 600), st.integers(1, 3), SEED)
def test_every_epoch_has_every_row_once(
    lengths: list[int], per_step: int, per_batch: int, epochs: int, seed: int
) -> None:
    order = rows(plan_steps(lengths, per_step, per_batch, epochs, seed))
    assert len(order) == epochs * len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 400), st.integers(1, 600), SEED)
def test_limits_of_steps_and_batches_hold(lengths: list[int], per_step: int, per_batch: int, seed: int) -> None:
    planned = plan_steps(lengths, per_step, per_batch, 1, seed)
    for batch in (batch for step in planned for batch in step):
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= per_batch
    # The largest piece that stays whole is a part, or a row that is longer. But for these, steps divide tokens evenly.
    piece = max(per_step, *lengths, 0)
    assert all(sum(lengths[row] for row in rows([step])) < 1.5 * per_step + piece for step in planned)
    assert all(planned) and all(batch for step in planned for batch in step)


@given(LENGTHS, st.integers(1, 400), st.integers(1, 600), st.integers(1, 5000), SEED)
def test_the_batch_size_changes_no_step(
    lengths: list[int], per_step: int, per_batch: int, other: int, seed: int
) -> None:
    planned, other_planned = (plan_steps(lengths, per_step, size, 1, seed) for size in (per_batch, other))
    assert [sorted(rows([step])) for step in planned] == [sorted(rows([step])) for step in other_planned]


def test_steps_are_as_many_as_asked_for() -> None:
    # 1,185 tokens in steps of 300 made two steps, of 1,149 and 36 tokens, when a batch could hold 2,000.
    generator = random.Random(0)
    lengths = [generator.randrange(40, 120) for _ in range(15)]
    lengths[-1] += 1185 - sum(lengths)
    useful = [sum(lengths[row] for row in rows([step])) for step in plan_steps(lengths, 300, 2000, 1, seed=0)]
    assert len(useful) == 4
    assert min(useful) > 100

    lengths = [generator.randrange(40, 400) for _ in range(3000)]
    for per_step in (1024, 2048, 16_384):
        useful = [sum(lengths[row] for row in rows([step])) for step in plan_steps(lengths, per_step, 512, 1, seed=0)]
        assert len(useful) == pytest.approx(sum(lengths) / per_step, rel=0.02)
        assert max(abs(size - per_step) for size in useful) < 0.4 * per_step


@given(LENGTHS, st.floats(0.01, 0.99), st.integers(0, 2), SEED)
def test_a_fractional_epoch_has_a_part_of_the_rows(lengths: list[int], rest: float, whole: int, seed: int) -> None:
    counts = Counter(rows(plan_steps(lengths, 100, 200, whole + rest, seed)))
    expected = whole * len(lengths) + max(1, rest * len(lengths))
    assert counts.total() == pytest.approx(expected, abs=0.51)
    assert set(counts.values()) <= {whole, whole + 1}


@given(LENGTHS, SEED)
def test_the_seed_alone_decides_the_plan(lengths: list[int], seed: int) -> None:
    planned = plan_steps(lengths, 100, 200, 2, seed)
    random.seed(seed + 1)  # the global generator must not matter
    assert plan_steps(lengths, 100, 200, 2, seed) == planned


def test_seeds_and_epochs_differ_in_order() -> None:
    lengths = [50] * 60
    first, second = (rows(plan_steps(lengths, 200, 200, 2, seed)) for seed in (0, 1))
    assert first != second
    assert first[:60] != first[60:]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200), st.integers(1, 4000), st.integers(1, 16_000), SEED)
def test_padding_is_low(lengths: list[int], per_step: int, per_batch: int, seed: int) -> None:
    assert padding_share(plan_steps(lengths, per_step, per_batch, 1, seed), lengths) <= MAX_PADDING_SHARE


def test_batches_are_as_large_as_low_padding_allows() -> None:
    assert sum(map(len, plan_steps([100] * 300 + [103] * 300, 4096, 1030, 1, 0))) < 64
    generator = random.Random(0)
    lengths = [generator.randrange(40, 400) for _ in range(2000)]
    planned = plan_steps(lengths, 4096, 1024, 1, seed=0)
    assert sum(lengths) / sum(map(len, planned)) > 0.8 * 1024
    assert padding_share(planned, lengths) < 0.02


def test_padding_share_is_relative_to_all_tokens() -> None:
    assert padding_share([[(row,) for row in range(9)]], [*range(1, 10)]) == 0
    assert padding_share([[(0, 1)]], [10, 30]) == pytest.approx(1 / 3)
    assert padding_share([], []) == 0


def test_a_step_of_several_batches_mixes_lengths() -> None:
    generator = random.Random(0)
    lengths = [generator.randrange(40, 400) for _ in range(2000)]
    planned = plan_steps(lengths, 4096, 1024, 1, seed=0)
    spread = [max(lengths[row] for row in rows([step])) - min(lengths[row] for row in rows([step])) for step in planned]
    assert sorted(spread)[len(spread) // 2] > 100


def test_the_hash_covers_tokens_and_loss_masks() -> None:
    def row(tokens: tuple[int, ...], prompt: int = 1) -> TokenizedExample:
        return TokenizedExample("a:1", "add", tokens, (False,) * prompt + (True,) * (len(tokens) - prompt))

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
