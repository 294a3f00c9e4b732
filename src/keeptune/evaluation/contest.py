"""The score of the 2024 Ascend innovation contest, large-model fine-tuning track, so that results can be compared.

Source: the organisers' topic2-finetune README and handbooks 7 and 8 (mindspore-courses/competition,
2024-ascend-innovation-contest). All 20 published scores of phase 1 follow from these formulas.

`ratio` is trainable over total parameters, with the rounded totals below that every team had to divide by;
`accuracy` is a fraction. An entry counts only if it keeps SQUAD_THRESHOLD of the base's F1 and EM, both measured
with the contest's own metric (keeptune.grading.squad.contest); more than that earns nothing.
"""

from __future__ import annotations

from keeptune.errors import RecipeError

SQUAD_THRESHOLD = 0.90

# LLaMA3-8B, arithmetic.
PHASE1_TOTAL_PARAMETERS = 8_030_000_000
PHASE1_BASE_F1_PERCENT = 59.87023775108988
PHASE1_BASE_EM_PERCENT = 44.17029511369134

# InternLM-7B, multiple choice.
PHASE2_TOTAL_PARAMETERS = 7_321_000_000
PHASE2_BASE_F1_PERCENT = 46.04352558186199
PHASE2_BASE_EM_PERCENT = 27.092404450895017


def phase1(ratio: float, accuracy: float) -> float:
    """0.3 · (1 − ratio) + 0.7 · accuracy: a thousandth of the parameters costs 0.0003, 0.043 points of accuracy."""
    _check(ratio, accuracy)
    return 0.3 * (1 - ratio) + 0.7 * accuracy


def phase2(ratio: float, accuracy: float) -> float:
    """0.3 · (1 − 10 · ratio) + 0.7 · accuracy: parameters cost ten times as much as in phase 1."""
    _check(ratio, accuracy)
    return 0.3 * (1 - 10 * ratio) + 0.7 * accuracy


def _check(ratio: float, accuracy: float) -> None:
    if not (0 <= ratio <= 1 and 0 <= accuracy <= 1):
        raise RecipeError(f"ratio {ratio} and accuracy {accuracy} must be fractions of 1; divide percents by 100")
