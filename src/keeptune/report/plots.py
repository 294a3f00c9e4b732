"""The plots of a report, as SVG fragments that take their colors and fonts from the page around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from keeptune.report.drawing import (
    BASE,
    LINE,
    THIRD,
    TUNED,
    WIDEST_PERCENT,
    WIDTH_POINTS,
    axis_range,
    draw_interval,
    figure_of,
    to_svg,
)
from keeptune.run_files.events import ScoreEvent, TrainEvent
from keeptune.run_files.part import Estimate
from keeptune.run_files.result import Chosen, Share, Skill
from keeptune.run_files.retention import Gate, Ratio

FloatArray = NDArray[np.float64]
Curve = tuple[FloatArray, FloatArray]
"""The steps and the values of a curve."""

_CURVE_POINTS = 90

MOST_KINDS = 60
"""Kinds that plots show. A figure takes 10 ms, and the labels of a skill can be thousands."""

_LOWEST_LOSS = 1e-4


def kinds(skill: Skill, order: Sequence[str]) -> str:
    """Base and tuned accuracy of all kinds together, and of the kinds with the most answers, with 95 % intervals."""
    by_kind = skill.tuned.by_kind
    most = set(sorted(by_kind, key=lambda name: -by_kind[name].n)[:MOST_KINDS])
    order = [name for name in order if name in most]
    names = ["all", *order]
    figure, axes = figure_of(WIDTH_POINTS, 32 + 25 * len(names), left=88, bottom=26, top=6)
    rows: dict[str, list[Share | None]] = {
        BASE: [skill.base, *(skill.base.by_kind.get(name) for name in order)],
        TUNED: [skill.tuned, *(skill.tuned.by_kind[name] for name in order)],
    }
    for offset, (color, shares) in zip((-0.17, 0.17), rows.items(), strict=True):
        for row, share in enumerate(shares):
            if share is not None:
                low, high = share.ci95
                draw_interval(axes, row + offset, 100 * share.accuracy, 100 * low, 100 * high, color)
    axes.axhline(0.5, color=LINE, linewidth=0.8)
    axes.set(xlim=(-1.5, 101.5), ylim=(len(names) - 0.4, -0.6))
    # A lone dollar sign would be read as the start of a formula.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_xticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return to_svg(figure, "kinds", "Accuracy before and after by kind, with 95 % intervals; the table has the figures.")


def retention(ratio: Ratio, gate: Gate) -> str:
    """Tuned / base of F1 and EM with 95 % intervals, and the threshold."""
    figure, axes = figure_of(WIDTH_POINTS, 112, left=40, bottom=26, top=22)
    estimates = {"F1": ratio.f1, "EM": ratio.em}
    low, high = axis_range([100 * gate.threshold, 100.0, *_ends(estimates.values())])
    for row, estimate in enumerate(estimates.values()):
        if np.isfinite(estimate.point):
            # An interval without an upper end reaches the edge of the plot.
            draw_interval(
                axes, row, 100 * estimate.point, 100 * estimate.low95, min(100 * estimate.high95, high), TUNED
            )
    axes.axvline(100, color=LINE, linewidth=1)
    axes.axvline(100 * gate.threshold, color=THIRD, linewidth=1.2, dashes=(4, 3))
    axes.text(100 * gate.threshold, -0.75, f"threshold {gate.threshold:.0%}", color=THIRD, fontsize=12, ha="center")
    axes.set(xlim=(low, high), ylim=(1.6, -0.6))
    axes.set_yticks(range(2), list(estimates))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}%")
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return to_svg(figure, "retention", "Reading F1 and EM, tuned / base, with 95 % intervals and the threshold.")


def losses(steps: Sequence[TrainEvent]) -> dict[str, str]:
    """One loss curve for each of the most frequent kinds, with the mean over all kinds; empty without logged steps."""
    frequency = Counter(kind for step in steps for kind in step.loss_by_kind)
    names = sorted(kind for kind, _ in frequency.most_common(MOST_KINDS))
    if not names:
        return {}
    overall = _curve({step.step: step.loss for step in steps})
    curves = {
        name: _curve({step.step: step.loss_by_kind[name] for step in steps if name in step.loss_by_kind})
        for name in names
    }
    values = np.concatenate([overall[1], *(curve[1] for curve in curves.values())])
    limits = (float(values.min()) / 1.3, float(values.max()) * 1.3)
    return {name: _loss_panel(name, curve, overall, limits, steps[-1].step) for name, curve in curves.items()}


def _loss_panel(name: str, curve: Curve, overall: Curve, limits: tuple[float, float], last_step: int) -> str:
    figure, axes = figure_of(170, 104, left=32, bottom=20, top=6, right=8)
    axes.plot(*overall, color=BASE, linewidth=1, alpha=0.55)
    axes.plot(*curve, color=TUNED, linewidth=1.5, marker="o" if len(curve[0]) == 1 else None, markersize=3)
    axes.set_yscale("log")
    axes.set(xlim=(0, last_step), ylim=limits)
    ticks = [tick for tick in (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1, 3, 10) if limits[0] <= tick <= limits[1]]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.set_xticks([0, last_step])
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    return to_svg(figure, f"loss-{name}", f"Training loss of {name} over {last_step} steps.")


def dev(scores: Sequence[ScoreEvent]) -> str | None:
    """Dev accuracy, F1 and EM over the steps; None without dev scores."""
    if not scores:
        return None
    figure, axes = figure_of(WIDTH_POINTS, 190, left=40, bottom=30, top=8, right=64)
    at = [score.step for score in scores]
    lines: Mapping[str, tuple[str, list[float]]] = {
        "accuracy": (TUNED, [100 * score.skill.accuracy for score in scores]),
        "F1": (BASE, [score.retained.f1 for score in scores]),
        "EM": (THIRD, [score.retained.em for score in scores]),
    }
    heights = _spread([values[-1] for _, values in lines.values()], apart=8)
    for (name, (color, values)), height in zip(lines.items(), heights, strict=True):
        axes.plot(at, values, color=color, linewidth=1.6, marker="o", markersize=3.5, clip_on=False)
        axes.text(1.02, height, name, color=color, va="center", fontsize=12, transform=axes.get_yaxis_transform())
    axes.set(xlim=(0, at[-1]), ylim=(0, 100), xlabel="step")
    axes.set_yticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    return to_svg(figure, "dev", "Dev accuracy, reading F1 and EM over the training steps.")


def frontier(chosen: Chosen, threshold: float) -> str | None:
    """Dev accuracy over dev reading (tuned / base), per checkpoint and scale; None with fewer than two candidates."""
    if len(chosen.candidates) < 2:
        return None
    figure, axes = _skill_over_reading()
    shares = [min(100 * candidate.kept, WIDEST_PERCENT) for candidate in chosen.candidates]
    for share, candidate in zip(shares, chosen.candidates, strict=True):
        is_selected = (candidate.checkpoint, candidate.scale) == (chosen.checkpoint, chosen.scale)
        color = TUNED if is_selected else BASE
        axes.plot([share], [100 * candidate.accuracy], color=color, marker="o", markersize=8 if is_selected else 5)
        if candidate.scale != 1 or is_selected:
            place = (share, 100 * candidate.accuracy)
            axes.annotate(f"{candidate.scale:g}", place, (6, 5), textcoords="offset points", color=color, fontsize=11)
    _mark_gate(axes, shares, threshold)
    return to_svg(figure, "frontier", "Dev accuracy over dev reading, tuned / base, for every checkpoint and scale.")


def runs(points: Sequence[tuple[int, float, float, int, bool]], threshold: float) -> str:
    """Accuracy over reading (tuned / base) of several runs.

    A point is (number, reading, accuracy, trainable parameters, is highlighted). Its area grows with the logarithm of
    the parameters.
    """
    figure, axes = _skill_over_reading()
    most = max(trainable for *_, trainable, _ in points)
    shares = [min(100 * share, WIDEST_PERCENT) for _, share, *_ in points]
    for at, (number, _, accuracy, trainable, is_highlighted) in zip(shares, points, strict=True):
        color = TUNED if is_highlighted else BASE
        size = max(4.0, 11 + 2 * np.log10(trainable / most))
        axes.plot([at], [100 * accuracy], color=color, marker="o", markersize=size, alpha=0.8)
        axes.annotate(str(number), (at, 100 * accuracy), (6, 5), textcoords="offset points", color=color, fontsize=11)
    _mark_gate(axes, shares, threshold)
    return to_svg(figure, "runs", "Accuracy over reading, tuned / base, for every run; the table has the figures.")


def _skill_over_reading() -> tuple[Figure, Any]:
    figure, axes = figure_of(WIDTH_POINTS, 210, left=44, bottom=40, top=22, right=20)
    axes.set(ylim=(0, 101), xlabel="reading, tuned / base, the lower of F1 and EM")
    axes.set_yticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}%")
    axes.grid(color=LINE, linewidth=0.6)
    return figure, axes


def _mark_gate(axes: Any, shares: Sequence[float], threshold: float) -> None:
    axes.axvline(100 * threshold, color=THIRD, linewidth=1.2, dashes=(4, 3))
    axes.text(100 * threshold, 103, f"threshold {threshold:.0%}", color=THIRD, fontsize=12, ha="center")
    axes.set(xlim=axis_range([*shares, 100 * threshold]))


def _curve(loss_at: Mapping[int, float]) -> Curve:
    """The steps and losses of a curve. Long curves become means over at most _CURVE_POINTS equal parts."""
    at = np.array(list(loss_at), dtype=np.float64)
    values = np.maximum(np.array(list(loss_at.values()), dtype=np.float64), _LOWEST_LOSS)
    parts = min(len(at), _CURVE_POINTS)
    return _means(at, parts), _means(values, parts)


def _means(values: FloatArray, parts: int) -> FloatArray:
    return np.array([part.mean() for part in np.array_split(values, parts)])


def _ends(estimates: Iterable[Estimate]) -> list[float]:
    values = [100 * value for e in estimates for value in (e.point, e.low95, e.high95)]
    return [min(value, WIDEST_PERCENT) for value in values if not np.isnan(value)]


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """The heights, moved up where labels would overlap."""
    positions = list(heights)
    ranks = sorted(range(len(positions)), key=lambda index: positions[index])
    for below, above in pairwise(ranks):
        positions[above] = max(positions[above], positions[below] + apart)
    return positions
