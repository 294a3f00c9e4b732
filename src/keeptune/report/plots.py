"""The pictures of a report: small SVG fragments that take their colours and letters from the page around them.

They are drawn without pyplot, so nothing global is left behind, and the same run always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from keeptune.report.shapes import Chosen, Estimate, Gate, Ratio, ScoreEvent, Share, Skill, TrainEvent

FloatArray = NDArray[np.float64]
Curve = tuple[FloatArray, FloatArray]
"""The steps and the values of a curve."""

# Stand-ins that no other part of a drawing uses; in the fragment each becomes a colour of the page, which knows
# whether it is shown light or dark.
TEXT, LINE, BASE, TUNED, THIRD = "#a10001", "#a10002", "#a10003", "#a10004", "#a10005"
_PAGE_COLOURS = {TEXT: "--muted", LINE: "--line", BASE: "--base", TUNED: "--tuned", THIRD: "--third"}

_OPENING = re.compile(r'<svg [^>]*(?P<box>viewBox="[^"]*")[^>]*>')
_NOT_FOR_A_PAGE = (
    (re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL), ""),
    (re.compile(r'<g id="[^"]*"'), "<g"),
    (re.compile(r" font-family: [^;]*;"), ""),
    (re.compile(r"\s*\n\s*"), "\n"),
)
"""What the page sets itself (size, fonts, line ends), and names that two fragments would share."""

_POINTS_PER_INCH = 72
_WIDTH_POINTS = 420
_CURVE_POINTS = 90
_LOWEST_LOSS = 1e-4
_WIDEST_PERCENT = 200.0


def kinds(skill: Skill, order: Sequence[str]) -> str:
    """Base and tuned accuracy of each kind, and of all, with 95 % intervals."""
    names = ["all", *order]
    figure, axes = _figure(_WIDTH_POINTS, 32 + 25 * len(names), left=88, bottom=26, top=6)
    rows: dict[str, list[Share | None]] = {
        BASE: [skill.base, *(skill.base.by_kind.get(name) for name in order)],
        TUNED: [skill.tuned, *(skill.tuned.by_kind[name] for name in order)],
    }
    for offset, (colour, shares) in zip((-0.17, 0.17), rows.items(), strict=True):
        for row, share in enumerate(shares):
            if share is not None:
                low, high = share.ci95
                _whisker(axes, row + offset, 100 * share.accuracy, 100 * low, 100 * high, colour)
    axes.axhline(0.5, color=LINE, linewidth=0.8)
    axes.set(xlim=(-1.5, 101.5), ylim=(len(names) - 0.4, -0.6))
    # A lone dollar sign would be read as the start of a formula.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_xticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return _svg(figure, "kinds", "Accuracy before and after by kind, with 95 % intervals; the table has the figures.")


def retention(ratio: Ratio, gate: Gate) -> str:
    """The share of the base's F1 and EM that was kept, with 95 % intervals, against the gate."""
    figure, axes = _figure(_WIDTH_POINTS, 112, left=40, bottom=26, top=22)
    estimates = {"F1": ratio.f1, "EM": ratio.em}
    low, high = _range([100 * gate.threshold, 100.0, *_ends(estimates.values())])
    for row, estimate in enumerate(estimates.values()):
        if np.isfinite(estimate.point):
            # An interval without an upper end runs off the picture.
            _whisker(axes, row, 100 * estimate.point, 100 * estimate.low95, min(100 * estimate.high95, high), TUNED)
    axes.axvline(100, color=LINE, linewidth=1)
    axes.axvline(100 * gate.threshold, color=THIRD, linewidth=1.2, dashes=(4, 3))
    axes.text(100 * gate.threshold, -0.75, f"gate {gate.threshold:.0%}", color=THIRD, fontsize=12, ha="center")
    axes.set(xlim=(low, high), ylim=(1.6, -0.6))
    axes.set_yticks(range(2), list(estimates))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}%")
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return _svg(figure, "retention", "Kept share of the base's F1 and EM with 95 % intervals, against the gate.")


def losses(steps: Sequence[TrainEvent]) -> dict[str, str]:
    """One curve for each kind on common axes, the mean over all kinds behind it; empty where nothing was logged."""
    names = sorted({kind for step in steps for kind in step.loss_by_kind})
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
    figure, axes = _figure(170, 104, left=32, bottom=20, top=6, right=8)
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
    return _svg(figure, f"loss-{name}", f"Training loss of {name} over {last_step} steps.")


def dev(scores: Sequence[ScoreEvent]) -> str | None:
    """Dev accuracy, F1 and EM over the steps; None where nothing was scored during training."""
    if not scores:
        return None
    figure, axes = _figure(_WIDTH_POINTS, 190, left=40, bottom=30, top=8, right=64)
    at = [score.step for score in scores]
    lines: Mapping[str, tuple[str, list[float]]] = {
        "accuracy": (TUNED, [100 * score.skill.accuracy for score in scores]),
        "F1": (BASE, [score.retained.f1 for score in scores]),
        "EM": (THIRD, [score.retained.em for score in scores]),
    }
    heights = _spread([values[-1] for _, values in lines.values()], apart=8)
    for (name, (colour, values)), height in zip(lines.items(), heights, strict=True):
        axes.plot(at, values, color=colour, linewidth=1.6, marker="o", markersize=3.5, clip_on=False)
        axes.text(1.02, height, name, color=colour, va="center", fontsize=12, transform=axes.get_yaxis_transform())
    axes.set(xlim=(0, at[-1]), ylim=(0, 100), xlabel="step")
    axes.set_yticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    return _svg(figure, "dev", "Dev accuracy, reading F1 and EM over the training steps.")


def frontier(chosen: Chosen, threshold: float) -> str | None:
    """Dev accuracy against what was kept, for every checkpoint and scale; None where there was no choice."""
    if len(chosen.candidates) < 2:
        return None
    figure, axes = _skill_over_kept()
    kept = [min(100 * candidate.kept, _WIDEST_PERCENT) for candidate in chosen.candidates]
    for share, candidate in zip(kept, chosen.candidates, strict=True):
        taken = (candidate.checkpoint, candidate.scale) == (chosen.checkpoint, chosen.scale)
        colour = TUNED if taken else BASE
        axes.plot([share], [100 * candidate.accuracy], color=colour, marker="o", markersize=8 if taken else 5)
        if candidate.scale != 1 or taken:
            place = (share, 100 * candidate.accuracy)
            axes.annotate(f"{candidate.scale:g}", place, (6, 5), textcoords="offset points", color=colour, fontsize=11)
    _mark_gate(axes, kept, threshold)
    return _svg(figure, "frontier", "Dev accuracy against what was kept, for every checkpoint and scale.")


def runs(points: Sequence[tuple[int, float, float, int, bool]], threshold: float) -> str:
    """Accuracy against what was kept, of several runs: number, share kept, accuracy, trainable parameters, and whether
    it stands out. The size of a dot grows with the logarithm of the parameters."""
    figure, axes = _skill_over_kept()
    most = max(trainable for *_, trainable, _ in points)
    kept = [min(100 * share, _WIDEST_PERCENT) for _, share, *_ in points]
    for at, (number, _, accuracy, trainable, stands_out) in zip(kept, points, strict=True):
        colour = TUNED if stands_out else BASE
        size = max(4.0, 11 + 2 * np.log10(trainable / most))
        axes.plot([at], [100 * accuracy], color=colour, marker="o", markersize=size, alpha=0.8)
        axes.annotate(str(number), (at, 100 * accuracy), (6, 5), textcoords="offset points", color=colour, fontsize=11)
    _mark_gate(axes, kept, threshold)
    return _svg(figure, "runs", "Accuracy against what was kept, for every run; the table has the figures.")


def _skill_over_kept() -> tuple[Figure, Any]:
    figure, axes = _figure(_WIDTH_POINTS, 210, left=44, bottom=40, top=22, right=20)
    axes.set(ylim=(0, 101), xlabel="kept of the base's reading, the worse of F1 and EM")
    axes.set_yticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}%")
    axes.grid(color=LINE, linewidth=0.6)
    return figure, axes


def _mark_gate(axes: Any, kept: Sequence[float], threshold: float) -> None:
    axes.axvline(100 * threshold, color=THIRD, linewidth=1.2, dashes=(4, 3))
    axes.text(100 * threshold, 103, f"gate {threshold:.0%}", color=THIRD, fontsize=12, ha="center")
    axes.set(xlim=_range([*kept, 100 * threshold]))


def _figure(
    width: float, height: float, *, left: float, bottom: float, top: float, right: float = 14
) -> tuple[Figure, Any]:
    """A figure and its axes, all measures in points."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=12 if width == _WIDTH_POINTS else 9, colors=TEXT, pad=5)
    axes.xaxis.label.set(color=TEXT, size=12)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    return figure, axes


def _whisker(axes: Any, row: float, point: float, low: float, high: float, colour: str) -> None:
    axes.plot([low, high], [row, row], color=colour, linewidth=2, alpha=0.5, solid_capstyle="round")
    axes.plot([point], [row], color=colour, marker="o", markersize=5.5, markeredgewidth=0, clip_on=False)


def _curve(loss_at: Mapping[int, float]) -> Curve:
    """The steps and losses of a curve, as means over equal stretches where there are more than can be seen."""
    at = np.array(list(loss_at), dtype=np.float64)
    values = np.maximum(np.array(list(loss_at.values()), dtype=np.float64), _LOWEST_LOSS)
    parts = min(len(at), _CURVE_POINTS)
    return _means(at, parts), _means(values, parts)


def _means(values: FloatArray, parts: int) -> FloatArray:
    return np.array([part.mean() for part in np.array_split(values, parts)])


def _ends(estimates: Iterable[Estimate]) -> list[float]:
    values = [100 * value for e in estimates for value in (e.point, e.low95, e.high95)]
    return [min(value, _WIDEST_PERCENT) for value in values if not np.isnan(value)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    margin = 0.08 * (max(values) - min(values)) + 1
    return min(values) - margin, max(values) + margin


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """The heights, moved up where labels would overlap."""
    moved = list(heights)
    ranks = sorted(range(len(moved)), key=lambda index: moved[index])
    for below, above in pairwise(ranks):
        moved[above] = max(moved[above], moved[below] + apart)
    return moved


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as a fragment for a page: coloured by it, unique ids, no date, nothing that points elsewhere."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The page's fonts draw the letters; that the font for measuring them lacks some does no harm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()
    opening = _OPENING.search(drawing)
    assert opening is not None
    inside = drawing[opening.end() :]
    for pattern, replacement in _NOT_FOR_A_PAGE:
        inside = pattern.sub(replacement, inside)
    for stand_in, colour in _PAGE_COLOURS.items():
        inside = inside.replace(stand_in, f"var({colour})")
    return f'<svg role="img" aria-label="{escape(label)}" {opening["box"]}>{inside}'
