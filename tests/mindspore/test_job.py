"""Rows cut for the MindSpore engine: every labelled token counts once, and shapes are few."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keeptune.mindspore import job

ROW = st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=2, max_size=90)
ROWS = st.lists(ROW, min_size=1, max_size=9)


def rows_of(drawn: list[list[tuple[int, bool]]]) -> job.Rows:
    # A row's first token is part of its prompt.
    labelled = [[place > 0 and wanted for place, (_, wanted) in enumerate(row)] for row in drawn]
    return job.Rows.of([[token for token, _ in row] for row in drawn], labelled)


@given(ROWS, st.integers(1, 400))
def test_every_labelled_token_is_predicted_once_from_before_it(
    drawn: list[list[tuple[int, bool]]], tokens_per_batch: int
) -> None:
    rows, found = rows_of(drawn), []
    for own in job.passes(rows, range(len(drawn)), tokens_per_batch, 0.5):
        flat = own.ids.reshape(-1)
        count = len(own.owners)
        assert own.places.shape == own.labels.shape == own.weights.shape == flat.shape
        assert (own.weights[:count] == 0.5).all() and not own.weights[count:].any()
        found += list(zip(own.owners, flat[own.places[:count]], own.labels[:count], strict=True))
    expected = [
        (number, row[place - 1][0], token)
        for number, row in enumerate(drawn)
        for place, (token, wanted) in enumerate(row)
        if wanted and place > 0
    ]
    assert sorted(found) == sorted(expected)


@given(st.integers(1, 100_000))
def test_a_width_holds_the_row_and_less_than_as_much_again(longest: int) -> None:
    wide = job.width(longest)
    assert wide >= longest
    assert wide == job.NARROWEST or wide < 2 * longest
    assert job.width(wide) == wide


def test_widths_are_few() -> None:
    assert sorted({job.width(length) for length in range(1, 1025)}) == [64, 128, 256, 512, 1024]


def test_a_job_and_its_rows_come_back(tmp_path: Path) -> None:
    shape = job.Shape(2, 4, 2, 8, 1e-5, 1.0, tied=True)
    adam = job.Optimiser(True, 0.9, 0.95, 1e-8, 0.1, 1.0)
    written = job.Job(shape, adam, {"model.layers.0.self_attn.q_proj": 16.0}, 2.0, 512, half=False)
    written.write(tmp_path)
    assert job.Job.read(tmp_path) == written
    rows = rows_of([[(1, False), (2, True)], [(3, False), (4, True), (5, False)]])
    rows.write(tmp_path)
    tokens, labelled = job.Rows.read(tmp_path).row(1)
    assert (tokens.tolist(), labelled.tolist()) == ([3, 4, 5], [False, True, False])
    assert np.array_equal(rows.row(0)[0], [1, 2])
