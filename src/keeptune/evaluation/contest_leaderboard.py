"""The published results of phase 1 of the 2024 Ascend innovation contest, large-model track: LLaMA3-8B, arithmetic.

Source: the organisers' leaderboard and the teams' own READMEs (mindspore-courses/competition,
2024-ascend-innovation-contest, topic 2). Accuracy is the organisers', on test rows that they did not publish; F1 and
EM are by the contest's own metric, as the teams report them, and None where they do not. Runs of ours stand beside
them for orientation only: another model, other questions.
"""

from __future__ import annotations

from typing import NamedTuple

from keeptune.evaluation.contest import phase1


class Entry(NamedTuple):
    """A team's result: what it got right, what share of the parameters it trained, and what it kept, in percent."""

    team: str
    accuracy_percent: float
    ratio: float
    f1_percent: float | None
    em_percent: float | None

    @property
    def score(self) -> float:
        """The contest's score."""
        return phase1(self.ratio, self.accuracy_percent / 100)


PHASE1 = (
    Entry("debias_world1", 71.61, 0.00679028, 66.84, 48.09),
    Entry("枪心如火，枪如我心", 70.59, 0.00169757, 63.81, 46.25),
    Entry("肆拾贰", 64.00, 0.000424393, 69.86, 52.34),
    Entry("南科启明", 61.54, 0.000424393, None, None),
    Entry("崩铁暴打zzz", 51.38, 0.000424393, None, None),
    Entry("aics", 48.20, 0.000424393, 55.41, 43.54),
    Entry("PEFT小队", 45.54, 0.000848785, 57.76, 43.54),
    Entry("慢调细磨", 41.56, 0.000424393, 68.13, 50.41),
    Entry("nju-websoft", 36.44, 0.000424393, 58.49, 43.30),
    Entry("起名字是这样的", 33.56, 0.000424393, 61.07, 46.44),
    Entry("你当我是LZMA吗", 32.05, 0.000424393, 71.19, 54.04),
    Entry("阿巴阿巴", 30.10, 0.000636589, 65.42, 49.69),
    Entry("dian-team", 30.04, 0.000424393, 61.87, 47.27),
    Entry("ALL IN ONE", 29.87, 0.000424393, None, None),
    Entry("搞搞镇文化科技", 27.74, 0.000212196, 58.76, 44.17),
    Entry("欢迎光临", 27.55, 0.000424393, 68.57, 51.77),
    Entry("牛牛向前冲", 26.00, 0.000424393, 63.16, 47.42),
    Entry("阿巴巴巴", 25.64, 0.000685557, 58.59, 43.15),
    Entry("九毛一斤的瓜大队", 23.55, 0.000424393, 69.15, 52.73),
    Entry("比奇堡冲浪小组", 22.40, 0.000424393, 71.01, 53.07),
)
"""From the first place to the last."""
