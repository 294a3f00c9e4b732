import pytest

from keeptune.errors import RecipeError
from keeptune.evaluation import contest

R4_QV, R8_QV, R12_QV, R8_QVO, R16_QV = 1_703_936, 3_407_872, 5_111_808, 5_505_024, 6_815_744
R16_QKVO, R64_QKVO = 13_631_488, 54_525_952


@pytest.mark.parametrize(
    ("trainable", "ratio", "accuracy", "score"),
    [
        (R64_QKVO, 0.00679028, 0.7161, 0.799233),
        (R16_QKVO, 0.00169757, 0.7059, 0.793621),
        (R8_QV, 0.000424393, 0.6400, 0.747873),
        (R8_QV, 0.000424393, 0.6154, 0.730653),
        (R8_QV, 0.000424393, 0.5138, 0.659533),
        (R16_QV, 0.000848785, 0.4554, 0.618525),
        (R12_QV, 0.000636589, 0.3010, 0.510509),
        (R4_QV, 0.000212196, 0.2774, 0.494116),
        (R8_QVO, 0.000685557, 0.2564, 0.479274),
        (R8_QV, 0.000424393, 0.2240, 0.456673),
    ],
)
def test_published_leaderboard_scores(trainable: int, ratio: float, accuracy: float, score: float) -> None:
    measured = trainable / contest.PHASE1_TOTAL_PARAMETERS
    assert measured == pytest.approx(ratio, abs=5e-10)
    assert contest.phase1_score(measured, accuracy) == pytest.approx(score, abs=5e-7)


def test_the_leaderboard_is_in_the_published_order() -> None:
    scores = [entry.score for entry in contest.PHASE1_LEADERBOARD]
    assert scores == sorted(scores, reverse=True)
    assert [scores[0], scores[12], scores[-1]] == pytest.approx([0.799233, 0.510153, 0.456673], abs=5e-7)
    for entry in contest.PHASE1_LEADERBOARD:
        assert entry.f1_percent is None or entry.f1_percent > contest.SQUAD_THRESHOLD * contest.PHASE1_BASE_F1_PERCENT
        assert entry.em_percent is None or entry.em_percent > contest.SQUAD_THRESHOLD * contest.PHASE1_BASE_EM_PERCENT


def test_phase2_charges_ten_times_as_much_for_parameters() -> None:
    ratio = 16_777_216 / contest.PHASE2_TOTAL_PARAMETERS  # rank 16 on q, k, v, o of InternLM-7B
    assert ratio == pytest.approx(0.00229, abs=5e-6)
    assert contest.phase2_score(ratio, 0.9685) == pytest.approx(0.3 * 0.9770836 + 0.7 * 0.9685, abs=1e-7)


def test_published_gates() -> None:
    gates = [
        contest.SQUAD_THRESHOLD * base
        for base in (
            contest.PHASE1_BASE_F1_PERCENT,
            contest.PHASE1_BASE_EM_PERCENT,
            contest.PHASE2_BASE_F1_PERCENT,
            contest.PHASE2_BASE_EM_PERCENT,
        )
    ]
    assert gates == pytest.approx([53.88321397598089, 39.75326560232221, 41.43917302367579, 24.38316400580551])


@pytest.mark.parametrize(("ratio", "accuracy"), [(0.1, 71.61), (0.679, -0.1), (1.5, 0.5), (float("nan"), 0.5)])
def test_percents_are_refused(ratio: float, accuracy: float) -> None:
    with pytest.raises(RecipeError, match="by 100"):
        contest.phase1_score(ratio, accuracy)
