"""The counts equal those of a set of all rows, however the rows are distributed over passes."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from keeptune.data.distinct_counter import FLUSH_ROWS, PARTITIONS, DistinctCounter, count_distinct
from keeptune.data.selection import digest

KINDS = ("add", "mean", "area")
ROWS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.sampled_from("ab"), st.integers(0, 2)))


def add_row(counter: DistinctCounter, kind: str, name: object, solution: str) -> None:
    counter.add(kind, digest(f"{kind} {name}"), digest(solution)[:8])


@given(ROWS)
def test_the_counts_are_exact(rows: list[tuple[str, int, str, int]]) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        passes = [DistinctCounter(folder, str(number), KINDS) for number in range(3)]
        for kind, name, solution, number in rows:
            add_row(passes[number], kind, name, solution)
            if name == 0:
                passes[number].flush()
        for counter in passes:
            counter.flush()
        counts = count_distinct(folder, KINDS)
    solutions: dict[tuple[str, int], set[str]] = {}
    for kind, name, solution, _ in rows:
        solutions.setdefault((kind, name), set()).add(solution)
    assert counts.problems == Counter(kind for kind, _ in solutions)
    assert counts.conflicts == sum(len(texts) > 1 for texts in solutions.values())


def test_many_rows_are_not_kept_in_memory(tmp_path: Path) -> None:
    counter = DistinctCounter(tmp_path, "0", KINDS)
    for number in range(FLUSH_ROWS + 10):
        add_row(counter, "add", number % 1000, "s")
    assert len(counter.buffer) == 340
    counter.flush()
    assert count_distinct(tmp_path, KINDS).problems == {"add": 1000}
    assert len(list(tmp_path.iterdir())) == PARTITIONS
