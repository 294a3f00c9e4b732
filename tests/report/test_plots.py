"""Plots show the given figures, also extreme ones, and take their colors from the page."""

import re
import time
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from keeptune.report import plots
from keeptune.run_files.events import DevReading, DevSkill, ScoreEvent, TrainEvent
from keeptune.run_files.part import Estimate
from keeptune.run_files.result import Candidate, Chosen, Share, Skill, SkillScore
from keeptune.run_files.retention import Gate, Ratio

GATE = Gate(threshold=0.9, verdict="pass", reason="")


def skill(base: dict[str, float], tuned: dict[str, float]) -> Skill:
    def score(shares: dict[str, float]) -> SkillScore:
        kinds = {kind: Share(accuracy=share, n=9, ci95=(share / 2, (1 + share) / 2)) for kind, share in shares.items()}
        return SkillScore(accuracy=0.5, n=9, ci95=(0.25, 0.75), by_kind=kinds, by_policy={}, by_source={}, unstopped=0)

    return Skill(base=score(base), tuned=score(tuned), difference=estimate(0), mcnemar_p=1)


def estimate(point: float, low: float = 0.8, high: float = 1.2) -> Estimate:
    return Estimate(point=point, low95=low, high95=high)


def dots(drawing: str, colour: str) -> list[tuple[float, float]]:
    """The positions of the dots of one color."""
    uses = [element.attrib for element in tree(drawing).iter("use") if f"var(--{colour})" in element.get("style", "")]
    return [(float(use["x"]), float(use["y"])) for use in uses]


def tree(drawing: str) -> ET.Element:
    return ET.fromstring(drawing.replace("xlink:href", "href"))


def words(drawing: str) -> list[str]:
    return ["".join(element.itertext()) for element in tree(drawing).iter("text")]


def test_dot_position_is_the_share() -> None:
    kinds = {"low": 0.0, "middle": 0.5, "high": 1.0}
    drawing = plots.kinds(skill(kinds, kinds), list(kinds))
    for colour in ("base", "tuned"):
        everything, low, middle, high = dots(drawing, colour)
        assert low[0] < middle[0] == everything[0] < high[0]
        assert middle[0] - low[0] == pytest.approx(high[0] - middle[0])
        assert everything[1] < low[1] < middle[1] < high[1]
    assert words(drawing)[-4:] == ["all", *kinds]


def test_kind_without_base_result_has_one_dot() -> None:
    drawing = plots.kinds(skill({}, {"new": 0.5}), ["new"])
    assert (len(dots(drawing, "base")), len(dots(drawing, "tuned"))) == (1, 2)


@pytest.mark.parametrize("name", ["算术", "a$b$c", "<b>&", "x" * 40])
def test_any_name_is_drawn_without_a_warning(name: str) -> None:
    assert words(plots.kinds(skill({}, {name: 0.5}), [name]))[-1] == name


def test_threshold_and_both_ratios_are_drawn() -> None:
    drawing = plots.retention(Ratio(f1=estimate(0.95), em=estimate(1.05)), GATE)
    f1, em = dots(drawing, "tuned")
    assert f1[0] < em[0] and f1[1] < em[1]
    assert "threshold 90%" in words(drawing)


@pytest.mark.parametrize("em", [estimate(float("nan"), 0, float("inf")), estimate(1e6, 0, 1e9)])
def test_undefined_ratio_does_not_affect_the_other(em: Estimate) -> None:
    drawing = plots.retention(Ratio(f1=estimate(0.95), em=em), GATE)
    width = float(tree(drawing).attrib["viewBox"].split()[2])
    assert 0 < dots(drawing, "tuned")[0][0] < width


def test_each_kind_has_a_loss_curve() -> None:
    steps = [TrainEvent(step=step, loss=1 / step, loss_by_kind={"often": 1 / step}) for step in range(1, 501)]
    steps.append(TrainEvent(step=501, loss=0.0, loss_by_kind={"once": 0.0}))
    panels = plots.losses(steps)
    assert list(panels) == ["often", "once"]
    assert len(dots(panels["once"], "tuned")) == 1
    # Long runs are averaged, so that a page of them stays small.
    assert all(len(panel) < 12_000 for panel in panels.values())


def test_dev_plot_needs_scores() -> None:
    assert plots.dev([]) is None
    one = ScoreEvent(step=50, skill=DevSkill(accuracy=0.5, n=10), retained=DevReading(f1=50, em=50, n=10))
    drawing = plots.dev([one])
    assert drawing is not None and {"accuracy", "F1", "EM"} <= set(words(drawing))
    heights = [float(element.attrib["y"]) for element in list(tree(drawing).iter("text"))[-3:]]
    gaps = [abs(one - other) for one, other in pairwise(heights)]
    assert min(gaps) > 9, "labels of equal scores would lie on each other"


def test_drawings_use_colors_and_fonts_of_the_page() -> None:
    drawing = plots.kinds(skill({"a": 0.1}, {"a": 0.9}), ["a"])
    assert drawing == plots.kinds(skill({"a": 0.1}, {"a": 0.9}), ["a"])
    assert drawing.startswith('<svg role="img" aria-label="')
    assert "http" not in drawing and "<style" not in drawing and "font-family" not in drawing
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing))
    assert colours <= {"none", *(f"var(--{name})" for name in ("muted", "line", "base", "tuned", "third"))}


def candidate(scale: float, accuracy: float, share: float) -> Candidate:
    return Candidate(checkpoint="step-9", scale=scale, accuracy=accuracy, f1=40 * share, em=30 * share, kept=share)


def test_frontier_shows_scales_and_threshold() -> None:
    candidates = [candidate(1, 0.8, 0.4), candidate(0.5, 0.6, 0.95), candidate(0.25, 0.1, 1.0)]
    drawing = plots.frontier(Chosen(checkpoint="step-9", scale=0.5, candidates=candidates), 0.9)
    assert drawing is not None
    ((chosen_x, chosen_y),) = dots(drawing, "tuned")
    (whole_x, whole_y), (quarter_x, quarter_y) = dots(drawing, "base")
    assert whole_x < chosen_x < quarter_x
    assert whole_y < chosen_y < quarter_y  # down the page is less
    assert {"0.5", "0.25", "threshold 90%"} <= set(words(drawing))


def test_no_frontier_for_one_candidate() -> None:
    assert plots.frontier(Chosen(checkpoint="step-9", scale=1), 0.9) is None


def test_many_kinds_are_plotted_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 kinds would take a thousand seconds and gigabytes."""
    monkeypatch.setattr(plots, "MOST_KINDS", 10)
    names = [f"k{number}" for number in range(5_000)]
    started = time.process_time()
    shown = words(plots.kinds(skill(dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.2)), names))
    assert len([word for word in shown if word.startswith("k")]) == plots.MOST_KINDS
    steps = [TrainEvent(step=1, loss=1, loss_by_kind=dict.fromkeys(names, 1.0))]
    steps.append(TrainEvent(step=2, loss=1, loss_by_kind=dict.fromkeys(names[::2], 1.0)))
    panels = plots.losses(steps)
    assert len(panels) == plots.MOST_KINDS and set(panels) <= set(names[::2])
    assert time.process_time() - started < 10
