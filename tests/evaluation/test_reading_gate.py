import math

import pytest

from keeptune.evaluation.reading_gate import MINIMUM_BASE_TOTAL, ReadingVerdict, Verdict, judge_reading
from keeptune.evaluation.statistics import Ratio

KEPT, LOST, UNSURE = Ratio(1.0, 0.95, 1.05), Ratio(0.8, 0.75, 0.85), Ratio(0.9, 0.85, 0.95)
UNDEFINED = Ratio(math.nan, 0.0, math.inf)


def judge(f1: Ratio, em: Ratio, base_f1_total: float = 500, base_em_total: float = 400) -> ReadingVerdict:
    return judge_reading(f1, em, 0.9, base_f1_total=base_f1_total, base_em_total=base_em_total, questions=1000)


@pytest.mark.parametrize(
    ("f1", "em", "expected"),
    [
        (KEPT, KEPT, "pass"),
        (KEPT, UNSURE, "undecided"),
        (UNSURE, KEPT, "undecided"),
        (LOST, KEPT, "fail"),
        (KEPT, LOST, "fail"),
        (LOST, UNSURE, "fail"),
        (Ratio(0.95, 0.9, 1.0), Ratio(1.2, 0.9, 1.5), "pass"),
        (Ratio(0.85, 0.8, 0.9), KEPT, "undecided"),
    ],
)
def test_verdict(f1: Ratio, em: Ratio, expected: Verdict) -> None:
    assert judge(f1, em).verdict == expected


@pytest.mark.parametrize(("f1", "em"), [(KEPT, UNDEFINED), (KEPT, KEPT), (KEPT, LOST), (UNSURE, UNDEFINED)])
def test_a_base_near_zero_proves_neither_loss_nor_retention(f1: Ratio, em: Ratio) -> None:
    gate = judge(f1, em, base_em_total=MINIMUM_BASE_TOTAL - 0.5)
    assert gate.verdict == "undecided"
    assert "EM amounts to 9.5 right answers, fewer than 10, so a ratio to it is meaningless" in gate.reason


@pytest.mark.parametrize(
    ("f1", "likelihood", "expected"),
    [(KEPT, KEPT, "pass"), (KEPT, LOST, "fail"), (LOST, KEPT, "fail"), (KEPT, UNSURE, "undecided")],
)
def test_where_the_base_is_near_zero_the_likelihood_decides(f1: Ratio, likelihood: Ratio, expected: Verdict) -> None:
    gate = judge_reading(f1, UNDEFINED, 0.9, base_f1_total=500, base_em_total=3, questions=1000, likelihood=likelihood)
    assert gate.verdict == expected
    assert gate.reason.startswith(
        "The base's EM amounts to 3.0 right answers, fewer than 10, so a ratio to it is meaningless; the likelihood of "
        "the reference answers decides instead. Kept of the base's score: "
    )
    with_both = judge_reading(KEPT, KEPT, 0.9, base_f1_total=500, base_em_total=400, questions=1000, likelihood=LOST)
    assert with_both.verdict == "pass"


def test_a_base_near_zero_in_one_measure_does_not_hide_a_loss_in_the_other() -> None:
    assert judge(LOST, UNDEFINED, base_em_total=0).verdict == "fail"


def test_an_undefined_total_or_ratio_never_passes() -> None:
    nothing = Ratio(math.nan, math.nan, math.nan)
    assert judge(KEPT, KEPT, base_f1_total=math.nan).verdict == "undecided"
    assert judge(nothing, KEPT).verdict == "undecided"


def test_the_reason_names_what_decided() -> None:
    assert judge(KEPT, KEPT).reason == (
        "Kept of the base's score: F1 at least 95.0% and EM at least 95.0% (95 % interval); the gate asks for 90.0%."
    )
    assert judge(KEPT, LOST).reason == (
        "Kept of the base's score: EM at most 85.0% (95 % interval); the gate asks for 90.0%."
    )
    assert judge(UNSURE, KEPT).reason == (
        "Kept of the base's score: F1 85.0% to 95.0% (95 % interval); the gate asks for 90.0%. "
        "If it goes on like this, no number of questions would decide."
    )
    assert judge(Ratio(0.92, 0.88, 0.96), KEPT).reason.endswith(
        "If it goes on like this, about 3,000 more questions would decide."
    )


@pytest.mark.parametrize(
    ("f1", "em", "more"),
    [
        (Ratio(0.92, 0.88, 0.96), KEPT, 3000),  # half as wide: four times as many
        (Ratio(0.92, 0.88, 0.96), Ratio(0.91, 0.88, 0.94), 8000),  # both have to get off it
        (Ratio(0.88, 0.84, 0.92), Ratio(0.91, 0.88, 0.94), 3000),  # one is enough to fail
        (UNSURE, KEPT, None),
        (Ratio(math.nan, 0.0, math.inf), KEPT, None),
    ],
)
def test_how_many_more_questions_would_decide(f1: Ratio, em: Ratio, more: int | None) -> None:
    gate = judge(f1, em)
    assert (gate.verdict, gate.more_questions) == ("undecided", more)


@pytest.mark.parametrize("ratio", [KEPT, LOST])
def test_few_questions_decide_nothing(ratio: Ratio) -> None:
    """Four questions gave a firm verdict."""
    for total in (3.0, 500.0):
        totals = {"base_f1_total": total, "base_em_total": total}
        gate = judge_reading(ratio, ratio, 0.9, **totals, questions=4, likelihood=ratio)
        assert (gate.verdict, gate.more_questions) == ("undecided", 26)


@pytest.mark.parametrize(("nats", "expected"), [(2.0, "pass"), (6.1, "undecided")])
def test_a_base_that_can_do_nothing_proves_nothing(nats: float, expected: Verdict) -> None:
    """A model of random weights passed at any learning rate, because its likelihoods did not change much."""
    totals = {"base_f1_total": 0.0, "base_em_total": 0.0}
    gate = judge_reading(UNDEFINED, UNDEFINED, 0.9, **totals, questions=1000, likelihood=KEPT, base_answer_nats=nats)
    assert gate.verdict == expected
