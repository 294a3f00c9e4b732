"""The number of questions that a plan names brings a decision as often as it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation.gate import MINIMUM_QUESTIONS, AbilityScores, Kind, Limits, Measurement, judge
from keeptune.evaluation.power import (
    BASE_ACCURACY,
    CHANGED_SHARE,
    POWER,
    PROBABILITY_CHANGE,
    PROBABILITY_SPREAD,
    TEXT_SPREAD_NATS,
    DecidingMeasure,
    plan_abilities,
    questions_for_loss,
    questions_for_probability,
    questions_for_score,
)
from keeptune.evaluation.statistics import FloatArray

SIMULATIONS = 200
NEVER = 10**6
"""More questions than anybody has."""

SHARES = st.floats(0.05, 0.99)


@given(SHARES, SHARES, st.floats(0.1, 0.95), st.floats(0, 0.2))
def test_a_stricter_threshold_needs_more_questions(one: float, other: float, accuracy: float, changed: float) -> None:
    looser, stricter = sorted((one, other))
    assert questions_for_score(looser, accuracy, changed) <= questions_for_score(stricter, accuracy, changed)


@given(st.floats(0.001, 2), st.floats(0.001, 2), st.floats(0, 1))
def test_a_smaller_margin_needs_more_texts(one: float, other: float, spread: float) -> None:
    stricter, looser = sorted((one, other))
    assert questions_for_loss(looser, spread) <= questions_for_loss(stricter, spread)


@given(SHARES, st.floats(0.1, 0.9), st.floats(0, 0.2), st.floats(0, 0.2))
def test_more_changed_answers_need_more_questions(threshold: float, accuracy: float, one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    assert questions_for_score(threshold, accuracy, fewer) <= questions_for_score(threshold, accuracy, more)


@given(st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_spread_needs_more_texts(margin: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert questions_for_loss(margin, less) <= questions_for_loss(margin, more)


def test_unprovable_retention_needs_more_questions_than_available() -> None:
    assert questions_for_score(1.0) > NEVER
    assert questions_for_loss(0.0) > NEVER
    assert questions_for_score(0.9, accuracy=0.0) > NEVER


def test_a_decision_needs_at_least_the_minimum_of_the_gate() -> None:
    assert questions_for_score(0.1) == questions_for_loss(10.0) == MINIMUM_QUESTIONS


def test_plans_use_the_limit_of_each_ability() -> None:
    counts: list[tuple[str, DecidingMeasure, int]] = [
        ("knowledge", "probability", 200),
        ("reading-en", "score", 400),
        ("code", "score", 100),
        ("general-text", "loss", 64),
    ]
    plans = plan_abilities(counts, Limits(thresholds={"code": 0.95}, margins={"general-text": 0.02}))
    assert [plan.name for plan in plans] == ["knowledge", "reading-en", "code", "general-text"]
    assert [plan.kind for plan in plans] == ["score", "score", "score", "loss"]
    assert [plan.limit for plan in plans] == [0.9, 0.9, 0.95, 0.02]
    assert [plan.needed for plan in plans] == [
        questions_for_probability(0.9),
        questions_for_score(0.9),
        questions_for_score(0.95),
        questions_for_loss(0.02),
    ]
    assert [plan.is_enough for plan in plans] == [plan.questions >= plan.needed for plan in plans]
    assert plans[0].is_enough and plans[1].is_enough and not plans[2].is_enough


def share_retained(kind: Kind, limits: Limits, count: int, simulated: list[tuple[FloatArray, FloatArray]]) -> float:
    """How often the gate finds an ability retained that has lost nothing in truth."""
    retained = 0
    for seed, (base, tuned) in enumerate(simulated):
        ones = np.ones(count)
        own = Measurement("value", kind, base, tuned, range(count), ones, 10.0 if kind == "loss" else 0.0, count)
        result = judge([AbilityScores("ability", [own])], limits, resamples=1000, seed=seed)
        retained += result.abilities[0].status == "retained"
    return retained / len(simulated)


@pytest.mark.parametrize(("threshold", "accuracy", "changed"), [(0.9, BASE_ACCURACY, CHANGED_SHARE), (0.85, 0.4, 0.1)])
def test_scores_are_decided_as_often_as_promised(threshold: float, accuracy: float, changed: float) -> None:
    count = questions_for_score(threshold, accuracy, changed)
    draw = np.random.default_rng(1)
    simulated = []
    for _ in range(SIMULATIONS):
        # Right in both, lost, gained, wrong in both: as many are lost as are gained.
        kinds = draw.choice(
            4, size=count, p=[accuracy - changed / 2, changed / 2, changed / 2, 1 - accuracy - changed / 2]
        )
        simulated.append(((kinds <= 1).astype(np.float64), np.isin(kinds, (0, 2)).astype(np.float64)))
    found = share_retained("score", Limits(threshold=threshold), count, simulated)
    assert found == pytest.approx(POWER, abs=0.06)


@pytest.mark.parametrize(("threshold", "mean"), [(0.9, BASE_ACCURACY), (0.95, 0.7)])
def test_probabilities_are_decided_as_often_as_promised(threshold: float, mean: float) -> None:
    count = questions_for_probability(threshold, mean)
    assert MINIMUM_QUESTIONS < count < questions_for_score(threshold, mean)
    draw = np.random.default_rng(2)
    simulated = []
    for _ in range(SIMULATIONS):
        base = mean + np.sqrt(3) * PROBABILITY_SPREAD * draw.uniform(-1, 1, count)
        simulated.append((base, np.maximum(0, base + draw.normal(0, PROBABILITY_CHANGE, count))))
    found = share_retained("score", Limits(threshold=threshold), count, simulated)
    assert found == pytest.approx(POWER, abs=0.06)


@pytest.mark.parametrize(("margin", "spread"), [(0.03, TEXT_SPREAD_NATS), (0.1, 0.3)])
def test_losses_are_decided_as_often_as_promised(margin: float, spread: float) -> None:
    count = questions_for_loss(margin, spread)
    assert count > MINIMUM_QUESTIONS
    draw = np.random.default_rng(3)
    simulated = []
    for _ in range(SIMULATIONS):
        base = draw.normal(3, 0.5, count)
        simulated.append((base, base + draw.normal(0, spread, count)))
    assert share_retained("loss", Limits(margin=margin), count, simulated) == pytest.approx(POWER, abs=0.06)
