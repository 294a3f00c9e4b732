"""The common parts of a report's plots: figures without pyplot, and SVG fragments that the page colors.

No global state is changed, and the same run always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Placeholders that no other part of a drawing uses. In the fragment each becomes a variable of the page's style sheet,
# which has one value for light and one for dark mode.
TEXT, LINE, BASE, TUNED, THIRD, RIGHT, WRONG, PAGE = (f"#a1000{number}" for number in range(1, 9))
_PAGE_COLORS = {
    TEXT: "--muted",
    LINE: "--line",
    BASE: "--base",
    TUNED: "--tuned",
    THIRD: "--third",
    RIGHT: "--right",
    WRONG: "--wrong",
    PAGE: "--page",
}

_OPENING = re.compile(r'<svg [^>]*(?P<box>viewBox="[^"]*")[^>]*>')
_NOT_FOR_A_PAGE = (
    (re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL), ""),
    (re.compile(r'<g id="[^"]*"'), "<g"),
    (re.compile(r" font-family: [^;]*;"), ""),
    (re.compile(r"\s*\n\s*"), "\n"),
)
"""What the page sets itself (size, fonts, line ends), and ids that two fragments would share."""

_POINTS_PER_INCH = 72
WIDTH_POINTS = 420
"""The width of a full plot."""

WIDEST_PERCENT = 200.0
"""Larger shares are drawn at this position."""


def figure_of(
    width: float, height: float, *, left: float, bottom: float, top: float, right: float = 14
) -> tuple[Figure, Any]:
    """A figure and its axes. All lengths are in points."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=12 if width == WIDTH_POINTS else 9, colors=TEXT, pad=5)
    axes.xaxis.label.set(color=TEXT, size=12)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    return figure, axes


def draw_interval(
    axes: Any, row: float, point: float, low: float, high: float, color: str, marker: Mapping[str, Any] | None = None
) -> None:
    """Draws a point and its interval as a horizontal bar. `marker` changes the properties of the point."""
    axes.plot([low, high], [row, row], color=color, linewidth=2, alpha=0.5, solid_capstyle="round")
    style = {"marker": "o", "markersize": 5.5, "markeredgewidth": 0, **(marker or {})}
    axes.plot([point], [row], color=color, clip_on=False, **style)


def axis_range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that shows these values with a margin."""
    margin = 0.08 * (max(values) - min(values)) + 1
    return min(values) - margin, max(values) + margin


def to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG fragment: page colors, ids that start from `name`, no date, no external reference."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The page's fonts draw the text, so glyphs that matplotlib's font lacks do no harm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()
    opening = _OPENING.search(drawing)
    assert opening is not None
    inside = drawing[opening.end() :]
    for pattern, replacement in _NOT_FOR_A_PAGE:
        inside = pattern.sub(replacement, inside)
    for placeholder, color in _PAGE_COLORS.items():
        inside = inside.replace(placeholder, f"var({color})")
    return f'<svg role="img" aria-label="{escape(label)}" {opening["box"]}>{inside}'
