"""Micro-batches for the MindSpore engine: each labelled token occurs once, and there are few shapes."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keeptune.mindspore import job

ROW = st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=2, max_size=90)
ROWS = st.lists(ROW, min_size=1, max_size=9)


def rows_of(drawn: list[list[tuple[int, bool]]]) -> job.Rows:
    # A row's first token is never labelled: nothing predicts it.
    labelled = [[position > 0 and is_labelled for position, (_, is_labelled) in enumerate(row)] for row in drawn]
    return job.Rows.from_lists([[token for token, _ in row] for row in drawn], labelled)


@given(ROWS, st.integers(1, 400))
def test_each_labelled_token_is_predicted_once_from_the_position_before(
    drawn: list[list[tuple[int, bool]]], tokens_per_batch: int
) -> None:
    rows, targets = rows_of(drawn), []
    for batch in job.micro_batches(rows, range(len(drawn)), tokens_per_batch, 0.5):
        flat = batch.ids.reshape(-1)
        count = len(batch.row_indices)
        assert batch.positions.shape == batch.labels.shape == batch.weights.shape == flat.shape
        assert (batch.weights[:count] == 0.5).all() and not batch.weights[count:].any()
        targets += list(zip(batch.row_indices, flat[batch.positions[:count]], batch.labels[:count], strict=True))
    expected = [
        (number, row[position - 1][0], token)
        for number, row in enumerate(drawn)
        for position, (token, is_labelled) in enumerate(row)
        if is_labelled and position > 0
    ]
    assert sorted(targets) == sorted(expected)


@given(st.integers(1, 100_000))
def test_padded_length_is_less_than_twice_the_row(longest: int) -> None:
    padded = job.padded_tokens(longest)
    assert padded >= longest
    assert padded == job.MIN_PADDED_TOKENS or padded < 2 * longest
    assert job.padded_tokens(padded) == padded


def test_there_are_few_padded_lengths() -> None:
    assert sorted({job.padded_tokens(length) for length in range(1, 1025)}) == [64, 128, 256, 512, 1024]


def test_job_and_rows_are_read_back(tmp_path: Path) -> None:
    shape = job.Shape(2, 4, 2, 8, 1e-5, 1.0, is_tied=True)
    adam = job.Optimizer(True, 0.9, 0.95, 1e-8, 0.1, 1.0)
    written = job.Job(shape, adam, {"model.layers.0.self_attn.q_proj": 16.0}, 2.0, 512, is_half=False)
    written.write(tmp_path)
    assert job.Job.read(tmp_path) == written
    rows = rows_of([[(1, False), (2, True)], [(3, False), (4, True), (5, False)]])
    rows.write(tmp_path)
    tokens, labelled = job.Rows.read(tmp_path).row(1)
    assert (tokens.tolist(), labelled.tolist()) == ([3, 4, 5], [False, True, False])
    assert np.array_equal(rows.row(0)[0], [1, 2])
