"""Formats figures for the page and for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Context, Decimal, Inexact
from typing import Any

from keeptune.grading.chinese import COMMON_HAN_CHARACTER
from keeptune.run_files.part import Estimate
from keeptune.run_files.result import Share
from keeptune.run_files.retention import Kind

NONE = "–"
"""Shown where there is no figure."""

_EXACT = re.compile(r"(-?[0-9]+)(?:/([0-9]+))?")
_LONGEST_TRUTH_CHARACTERS = 30


def percent(share: float, decimals: int = 1) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:.{decimals}f}%" if math.isfinite(share) else _not_finite(share)


def decimal(value: float, decimals: int = 1) -> str:
    """A number with `decimals` decimals."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else _not_finite(value)


def count(number: float) -> str:
    """A count, in groups of three digits."""
    return f"{number:,.0f}"


def part(number: int, total: int) -> str:
    """A count, and its share of the total in percent."""
    return f"{count(number)} ({percent(number / total)})" if number else "0"


def share_interval(share: Share) -> str:
    """The 95 % interval of a share."""
    return f"{percent(share.ci95[0])} to {percent(share.ci95[1])}"


def ratio_interval(ratio: Estimate) -> str:
    """The 95 % interval of a ratio."""
    return f"{percent(ratio.low95)} to {percent(ratio.high95)}"


def measured(value: float, kind: Kind) -> str:
    """A value of an ability: a share in percent, or a loss per token."""
    if not math.isfinite(value):
        return NONE
    return percent(value) if kind == "score" else f"{value:.3f} nats"


def change(value: float, kind: Kind, with_unit: bool = True) -> str:
    """The change of an ability: the retained share in percent, or the difference of losses per token."""
    if kind == "score" or not math.isfinite(value):
        return percent(value)
    return f"{value:+.3f}{' nats' if with_unit else ''}"


def gain(difference: Estimate) -> str:
    """A difference of shares in percentage points, with its 95 % interval."""
    point, low, high = (f"{100 * value:+.1f}" for value in (difference.point, difference.low95, difference.high95))
    return f"{point} points (95 %: {low} to {high})"


def p_value(value: float | None) -> str:
    """A p-value with two significant digits; a dash if the test does not apply."""
    if value is None:
        return NONE
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def duration(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(byte_count: int) -> str:
    """A number of bytes in decimal units."""
    value = float(byte_count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def moment(iso: str) -> str:
    """An ISO timestamp in a readable form."""
    return iso.replace("T", " ").replace("+00:00", " UTC")


def truth(exact: str) -> str:
    """An exact answer: as a decimal if it has a finite one, else as `p/q ≈ decimal`."""
    match = _EXACT.fullmatch(exact)
    if match is None or match[2] is None:
        return exact
    numerator, denominator = Decimal(match[1]), Decimal(match[2])
    if denominator == 0:
        return exact
    context = Context(prec=_LONGEST_TRUTH_CHARACTERS)
    quotient = context.divide(numerator, denominator)
    if not context.flags[Inexact]:
        return str(quotient)
    short = Context(prec=10).divide(numerator, denominator)
    return f"{exact} ≈ {short}" if len(exact) <= _LONGEST_TRUTH_CHARACTERS else f"≈ {short}"


def language(written: str) -> str | None:
    """`zh` for a text with Chinese characters, so that a browser uses Chinese and not Japanese glyphs."""
    return "zh" if COMMON_HAN_CHARACTER.search(written) else None


def settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the settings of a recipe section as (dotted name, value), in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _setting(value)


def _setting(value: Any) -> str:
    if value is None or value in ([], {}):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _not_finite(value: float) -> str:
    return NONE if math.isnan(value) else "∞" if value > 0 else "−∞"
