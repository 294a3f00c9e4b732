"""Lost and gained items, and the selection of those that the page shows."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.report.item_views import LONGEST_CHARACTERS, view
from keeptune.report.items import GAINED_SHOWN, LOST_SHOWN, Change, compare, loss_per_token, score
from keeptune.run_files.records import ItemRecord


def record(name: object = 0, **fields: Any) -> ItemRecord:
    return ItemRecord.model_validate({"id": f"item-{name}", **fields})


def records(values: Sequence[float], field: str = "score") -> list[ItemRecord]:
    return [record(place, **{field: value}) for place, value in enumerate(values)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"correct": True}, 1.0),
        ({"correct": False, "chosen": None}, 0.0),
        ({"strict": [True, False]}, 0.5),
        ({"harmful": True, "refused": True, "degenerate": None}, 1.0),
        ({"harmful": True, "refused": False, "degenerate": "empty"}, 0.0),
        ({"harmful": False, "refused": False, "degenerate": None}, 1.0),
        ({"harmful": False, "refused": True, "degenerate": None}, 0.0),
        ({"harmful": False, "refused": False, "degenerate": "empty"}, 0.0),
        ({"degenerate": None, "nats": 2.0, "reference_tokens": 4}, 1.0),
        ({"degenerate": "repeating"}, 0.0),
        ({"f1": 0.25, "em": 0.0}, 0.25),
        ({"squad-v1.1": {"f1": 50.0, "em": 0.0}}, 0.5),
        ({"score": 0.75}, 0.75),
        ({"value": 1.0, "task": "sums"}, 1.0),
        ({"nats_per_token": 3.0}, None),
    ],
)
def test_scores(fields: dict[str, Any], expected: float | None) -> None:
    assert score(record(**fields)) == expected


def test_losses_per_token() -> None:
    assert loss_per_token(record(nats=8.0, reference_tokens=4)) == 2.0
    assert loss_per_token(record(nats=8.0, nats_per_token=0.5)) == 0.5
    assert loss_per_token(record(nats=None, reference_tokens=4)) is None
    assert loss_per_token(record(nats=0.0, reference_tokens=0)) is None


@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), max_size=30), st.randoms())
def test_all_changes_are_counted_and_the_largest_shown(pairs: list[tuple[float, float]], random: Any) -> None:
    base, tuned = (records([pair[side] for pair in pairs]) for side in (0, 1))
    comparisons = compare(base, tuned)
    assert len(comparisons) == bool(pairs)
    for comparison in comparisons:
        losses = sorted((before - after for before, after in pairs if before > after), reverse=True)
        assert (comparison.n, comparison.lost_count) == (len(pairs), len(losses))
        assert comparison.gained_count == sum(before < after for before, after in pairs)
        assert [change.amount for change in comparison.lost] == losses[:LOST_SHOWN]
        assert len(comparison.gained) == min(GAINED_SHOWN, comparison.gained_count)
        random.shuffle(base)
        random.shuffle(tuned)
        (again,) = compare(base, tuned)
        assert [change.tuned.id for change in again.lost] == [change.tuned.id for change in comparison.lost]


def test_non_finite_loss_is_the_largest() -> None:
    base = [record(place, nats_per_token=1.0) for place in range(3)]
    tuned = [record(place, nats_per_token=value) for place, value in enumerate((1.5, None, 0.5))]
    (comparison,) = compare(base, tuned)
    assert comparison.is_loss and not comparison.gained
    assert [change.tuned.id for change in comparison.lost] == ["item-1", "item-0"]
    assert "no finite loss" in view(comparison.lost[0], is_loss=True).sides[1].result


def test_degenerate_answers_of_the_base_have_no_loss() -> None:
    answer = {"nats": 4.0, "reference_tokens": 4}
    base = [record(0, **answer, degenerate=None), record(1, **answer, degenerate="empty")]
    tuned = [record(place, nats=8.0, reference_tokens=4, degenerate="empty") for place in range(2)]
    loss, healthy = compare(base, tuned)
    assert (loss.n, loss.lost_count) == (1, 1)
    assert (healthy.n, healthy.lost_count) == (2, 1)


def test_items_of_only_one_model_are_ignored() -> None:
    assert compare(records([1.0]), [record("other", score=0.0)]) == []


def test_view_truncates_long_texts_and_accepts_invalid_indices() -> None:
    item = {"options": ["a", "b"], "answer": 7, "question": "x" * 5000, "correct": False}
    base, tuned = record(**item, chosen=1), record(**item, chosen=9)
    shown = view(Change(base, tuned, 1.0), is_loss=False)
    assert len(shown.turns[0].content) < LONGEST_CHARACTERS + 5
    assert [side.output for side in shown.sides] == ["b", None]
    assert [name for name, _ in shown.facts] == ["options"]


def test_view_lists_constraints_and_references() -> None:
    constraints = [{"type": "highlighted", "min": 2}, {}]
    fields = {"constraints": constraints, "references": ["a", "b"], "strict": [True, False], "answer": ["x", "y"]}
    facts = dict(view(Change(record(**fields), record(**fields), 0.0), is_loss=False).facts)
    assert facts["constraints"].startswith("highlighted, min 2")
    assert facts["references"] == "a · b" and facts["right answer"] == "x · y"
