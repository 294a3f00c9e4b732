"""Scores and published results of the 2024 Ascend innovation contest, large-model fine-tuning track.

Source: the organizers' topic2-finetune README, handbooks 7 and 8, and leaderboard (mindspore-courses/competition,
2024-ascend-innovation-contest). The formulas reproduce all 20 published scores of phase 1.

In the formulas, `ratio` is the number of trainable parameters over the total below, which the organizers rounded.
`accuracy` is a fraction. An entry counts only if it keeps SQUAD_THRESHOLD of the base's F1 and EM by the contest's own
metric (keeptune.grading.contest_reading). Keeping more does not raise the score.
"""

from __future__ import annotations

from typing import NamedTuple

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


def phase1_score(ratio: float, accuracy: float) -> float:
    """0.3 · (1 − ratio) + 0.7 · accuracy.

    Training 0.1 % more of the parameters costs 0.0003, as much as 0.043 percentage points of accuracy.

    Raises:
        RecipeError: if an argument is not between 0 and 1.
    """
    _check_fractions(ratio, accuracy)
    return 0.3 * (1 - ratio) + 0.7 * accuracy


def phase2_score(ratio: float, accuracy: float) -> float:
    """0.3 · (1 − 10 · ratio) + 0.7 · accuracy. Parameters cost ten times as much as in phase 1.

    Raises:
        RecipeError: if an argument is not between 0 and 1.
    """
    _check_fractions(ratio, accuracy)
    return 0.3 * (1 - 10 * ratio) + 0.7 * accuracy


def _check_fractions(ratio: float, accuracy: float) -> None:
    if not (0 <= ratio <= 1 and 0 <= accuracy <= 1):
        raise RecipeError(
            f"contest score: ratio and accuracy must be between 0 and 1 (got {ratio} and {accuracy}); divide percent "
            "values by 100"
        )


class LeaderboardEntry(NamedTuple):
    """Published result of a team: accuracy, F1 and EM in percent, and the share of parameters that it trained.

    F1 and EM are None if the team does not report them.
    """

    team: str
    accuracy_percent: float
    ratio: float
    f1_percent: float | None
    em_percent: float | None

    @property
    def score(self) -> float:
        """The phase 1 score."""
        return phase1_score(self.ratio, self.accuracy_percent / 100)


PHASE1_LEADERBOARD = (
    LeaderboardEntry("debias_world1", 71.61, 0.00679028, 66.84, 48.09),
    LeaderboardEntry("枪心如火，枪如我心", 70.59, 0.00169757, 63.81, 46.25),
    LeaderboardEntry("肆拾贰", 64.00, 0.000424393, 69.86, 52.34),
    LeaderboardEntry("南科启明", 61.54, 0.000424393, None, None),
    LeaderboardEntry("崩铁暴打zzz", 51.38, 0.000424393, None, None),
    LeaderboardEntry("aics", 48.20, 0.000424393, 55.41, 43.54),
    LeaderboardEntry("PEFT小队", 45.54, 0.000848785, 57.76, 43.54),
    LeaderboardEntry("慢调细磨", 41.56, 0.000424393, 68.13, 50.41),
    LeaderboardEntry("nju-websoft", 36.44, 0.000424393, 58.49, 43.30),
    LeaderboardEntry("起名字是这样的", 33.56, 0.000424393, 61.07, 46.44),
    LeaderboardEntry("你当我是LZMA吗", 32.05, 0.000424393, 71.19, 54.04),
    LeaderboardEntry("阿巴阿巴", 30.10, 0.000636589, 65.42, 49.69),
    LeaderboardEntry("dian-team", 30.04, 0.000424393, 61.87, 47.27),
    LeaderboardEntry("ALL IN ONE", 29.87, 0.000424393, None, None),
    LeaderboardEntry("搞搞镇文化科技", 27.74, 0.000212196, 58.76, 44.17),
    LeaderboardEntry("欢迎光临", 27.55, 0.000424393, 68.57, 51.77),
    LeaderboardEntry("牛牛向前冲", 26.00, 0.000424393, 63.16, 47.42),
    LeaderboardEntry("阿巴巴巴", 25.64, 0.000685557, 58.59, 43.15),
    LeaderboardEntry("九毛一斤的瓜大队", 23.55, 0.000424393, 69.15, 52.73),
    LeaderboardEntry("比奇堡冲浪小组", 22.40, 0.000424393, 71.01, 53.07),
)
"""Published results of phase 1 (LLaMA3-8B, arithmetic), the best first.

Accuracy is the organizers', on test rows that are not public. F1 and EM are by the contest's own metric, from the
teams' READMEs. keeptune's own runs use other models and other questions, so they can only be compared roughly.
"""
