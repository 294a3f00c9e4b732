"""The chart of the retention suite: one row per ability, scores and losses on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from matplotlib.ticker import MaxNLocator

from keeptune.report.drawing import (
    BASE,
    LINE,
    PAGE,
    RIGHT,
    TEXT,
    THIRD,
    WIDEST_PERCENT,
    WRONG,
    axis_range,
    draw_interval,
    figure_of,
    to_svg,
)
from keeptune.run_files.retention import Kind, Status

GROUPS: dict[Kind, str] = {
    "score": "score, tuned / base",
    "loss": "probability per token, tuned / base",
}
"""The headings of the two groups of rows."""

SYMBOLS: dict[Status, str] = {
    "retained": "✓",
    "lost": "✗",
    "undecided": "?",
    "nothing to lose": "–",
    "practised": "○",
}
"""One symbol per status, so that a status can be read without color."""

_COLORS: dict[Status, str] = {
    "retained": RIGHT,
    "lost": WRONG,
    "undecided": THIRD,
    "nothing to lose": TEXT,
    "practised": BASE,
}
_MARKERS: dict[Status, Mapping[str, Any]] = {
    "retained": {},
    "lost": {"marker": "X", "markersize": 8},
    "undecided": {"marker": "D"},
    "nothing to lose": {"marker": "s"},
    "practised": {"markerfacecolor": "none", "markeredgewidth": 1.5},
}
_ROW_POINTS, _LEFT_POINTS, _PLOT_POINTS, _RIGHT_POINTS = 24, 94, 172, 106
_WIDTH_POINTS = _LEFT_POINTS + _PLOT_POINTS + _RIGHT_POINTS
"""Narrower than other plots, so that its text stays readable on a telephone."""

_NAME_CHARACTERS = 14
_GROUND = {"facecolor": PAGE, "edgecolor": "none", "pad": 1.5}
"""Behind text in the plot, so that grid lines do not cross it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: the retained share with its interval and limit, as ratios ≥ 0. They are nan without an interval."""

    name: str
    kind: Kind
    status: Status
    point: float
    low: float
    high: float
    limit: float


def suite(bars: Sequence[Bar]) -> str:
    """The retained share of each ability with its 95 % interval, limit and status."""
    rows: list[Bar | str] = []
    for kind, heading in GROUPS.items():
        group = [bar for bar in bars if bar.kind == kind]
        rows += [heading, *group] if group else []
    figure, axes = figure_of(
        _WIDTH_POINTS, 28 + _ROW_POINTS * len(rows), left=_LEFT_POINTS, right=_RIGHT_POINTS, bottom=24, top=4
    )
    low, high = axis_range([100.0, *_values(bars)])
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    axes.axvline(100, color=LINE, linewidth=1.4)
    for place, row in enumerate(rows):
        if isinstance(row, str):
            _draw_heading(axes, place, row)
        else:
            _draw_bar(axes, place, row, (low, high))
    named = {place: row for place, row in enumerate(rows) if isinstance(row, Bar)}
    axes.set_yticks(list(named), [_short(bar.name) for bar in named.values()])
    axes.tick_params(labelsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:.0f}%")
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    label = "Retained share of each ability with its 95 % interval, limit and status; the table has the figures."
    return to_svg(figure, "suite", label)


def _draw_heading(axes: Any, place: int, heading: str) -> None:
    style = {"color": TEXT, "fontsize": 11, "style": "italic", "va": "center"}
    where = axes.get_yaxis_transform()
    axes.text(-_LEFT_POINTS / _PLOT_POINTS, place + 0.1, heading, transform=where, bbox=_GROUND, **style)


def _draw_bar(axes: Any, place: int, bar: Bar, ends: tuple[float, float]) -> None:
    color, where, limit = _COLORS[bar.status], axes.get_yaxis_transform(), 100 * bar.limit
    axes.plot([limit, limit], [place - 0.36, place + 0.36], color=TEXT, linewidth=1.8, solid_capstyle="butt")
    if isfinite(bar.point):
        point, low, high = (max(ends[0], min(100 * value, ends[1])) for value in (bar.point, bar.low, bar.high))
        draw_interval(axes, place, point, low, high, color, _MARKERS[bar.status])
    else:
        # Beside the limit, on the side with more room.
        middle = (limit + max(ends, key=lambda end: abs(end - limit))) / 2
        axes.text(middle, place, "no interval", color=TEXT, fontsize=10.5, va="center", ha="center", bbox=_GROUND)
    label = f"{SYMBOLS[bar.status]} {bar.status}"
    axes.text(1.03, place, label, color=color, fontsize=12, va="center", transform=where)


def _values(bars: Sequence[Bar]) -> list[float]:
    """All shares that the axis shows, in percent."""
    shares = [value for bar in bars for value in (bar.limit, bar.point, bar.low, bar.high)]
    return [min(100 * value, WIDEST_PERCENT) for value in shares if value == value]


def _short(name: str) -> str:
    name = name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
    return name.replace("$", r"\$")
