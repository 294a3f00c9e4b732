"""The most skilled checkpoint that kept enough; the kept share is the worse of the two reading measures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation.checkpoint_candidates import Candidate, evaluations_without_improvement, select_candidate

BASE = Candidate("base", 0.1, f1=40.0, em=30.0)


def candidate(name: str, accuracy: float, kept: float) -> Candidate:
    return Candidate(name, accuracy, f1=BASE.f1 * kept, em=BASE.em * kept)


def test_the_most_accurate_eligible_candidate() -> None:
    found = [candidate("a", 0.5, 0.99), candidate("b", 0.7, 0.92), candidate("c", 0.9, 0.85)]
    assert select_candidate(found, BASE, 0.9).checkpoint == "b"


def test_the_later_of_equal_candidates() -> None:
    found = [candidate("a", 0.7, 0.99), candidate("b", 0.7, 0.91), candidate("c", 0.6, 1.0)]
    assert select_candidate(found, BASE, 0.9).checkpoint == "b"


def test_without_eligible_candidates_the_one_that_retains_most() -> None:
    found = [candidate("a", 0.9, 0.2), candidate("b", 0.1, 0.8), candidate("c", 0.95, 0.5)]
    assert select_candidate(found, BASE, 0.9).checkpoint == "b"


def test_the_threshold_itself_is_enough() -> None:
    assert (
        select_candidate([Candidate("a", 0.2, 20.0, 15.0), Candidate("b", 0.9, 19.9, 15.0)], BASE, 0.5).checkpoint
        == "a"
    )


@pytest.mark.parametrize(
    ("f1", "em", "share"),
    [(40.0, 15.0, 0.5), (10.0, 30.0, 0.25), (44.0, 33.0, 1.1), (0.0, 30.0, 0.0)],
)
def test_the_worse_measure_counts(f1: float, em: float, share: float) -> None:
    assert Candidate("a", 0.5, f1, em).retained_share(BASE) == pytest.approx(share)


def test_what_the_base_did_not_have_cannot_be_lost() -> None:
    assert Candidate("a", 0.5, 20.0, 0.0).retained_share(Candidate("base", 0.0, 40.0, 0.0)) == 0.5
    assert Candidate("a", 0.5, 0.0, 0.0).retained_share(Candidate("base", 0.0, 0.0, 0.0)) == 1.0


CANDIDATES = st.lists(
    st.builds(Candidate, st.just("step"), st.sampled_from([0.1, 0.5, 0.9]), st.floats(0, 100), st.floats(0, 100)),
    min_size=1,
)


@given(CANDIDATES, st.floats(0.01, 1))
def test_no_other_candidate_was_better(found: list[Candidate], threshold: float) -> None:
    chosen = select_candidate(found, BASE, threshold)
    enough = [other for other in found if other.retained_share(BASE) >= threshold]
    assert chosen in (enough or found)
    for other in enough or found:
        assert (
            (other.accuracy <= chosen.accuracy)
            if enough
            else (other.retained_share(BASE) <= chosen.retained_share(BASE))
        )


def test_retention_can_have_a_weight() -> None:
    found = [candidate("a", 0.70, 1.10), candidate("b", 0.74, 0.92)]
    assert [select_candidate(found, BASE, 0.9, weight).checkpoint for weight in (0.0, 0.2, 0.25, 1.0)] == [
        "b",
        "b",
        "a",
        "a",
    ]


@pytest.mark.parametrize(
    ("accuracies", "without"),
    [([], 0), ([0.5], 0), ([0.5, 0.6], 0), ([0.6, 0.5], 1), ([0.5, 0.5, 0.5], 2), ([0.5, 0.6, 0.6, 0.4], 2)],
)
def test_an_equal_score_is_not_better(accuracies: list[float], without: int) -> None:
    found = [candidate(f"step-{step}", accuracy, 1.0) for step, accuracy in enumerate(accuracies)]
    assert evaluations_without_improvement(found, BASE, 0.9, 0.0) == without


def test_skill_that_costs_too_much_is_not_better() -> None:
    found = [candidate("a", 0.5, 0.95), candidate("b", 0.9, 0.7), candidate("c", 0.95, 0.6)]
    assert evaluations_without_improvement(found, BASE, 0.9, 0.0) == 2


def test_without_eligible_candidates_more_retention_is_better() -> None:
    found = [candidate("a", 0.9, 0.5), candidate("b", 0.9, 0.6), candidate("c", 0.9, 0.7)]
    assert [evaluations_without_improvement(found[:count], BASE, 0.9, 0.0) for count in (1, 2, 3)] == [0, 0, 0]
