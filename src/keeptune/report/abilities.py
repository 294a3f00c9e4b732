"""The retention suite as tables and a chart show it: one row per ability, one row per measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

from keeptune.evaluation.gate import DECIDING
from keeptune.report import text
from keeptune.report.suite_plot import SYMBOLS, Bar
from keeptune.run_files.retention import Ability, Figures, Measure, Policy, Status

TABLE_HEAD = ["ability", "n", "base", "tuned", "retained or change", "95 % interval", "status"]
MEASURES_HEAD = ["measure", "n", "base", "tuned", "retained or change", "95 % interval", "limit", "status"]

_NOT_FOR_AN_ID = re.compile(r"[^\w.-]+")
_LARGEST_GAIN_NATS = 50.0
"""Larger gains are drawn as this one, so that exp does not overflow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, all figures as text."""

    name: str
    measure: str
    n: str
    base: str
    tuned: str
    change: str
    interval: str
    limit: str
    status: Status
    status_text: str
    reason: str

    @property
    def anchor(self) -> str:
        """The id of the ability's flipped items on the page."""
        return anchor(self.name)

    @property
    def style(self) -> str:
        """The status as a class of the style sheet."""
        return self.status.replace(" ", "-")


def anchor(ability: str) -> str:
    """The id of an ability's flipped items on the page."""
    return "ability-" + _NOT_FOR_AN_ID.sub("-", ability)


def ability_rows(abilities: Mapping[str, Ability], policy: Policy) -> list[Row]:
    """One row per ability, with the figures of the measure that decides its status."""
    rows = []
    for name, ability in abilities.items():
        measure, figures = ability.decisive
        status = f"{SYMBOLS[ability.status]} {ability.status}"
        if policy == "suite" and ability.status in DECIDING and not ability.counted:
            status += ", not counted"
        reasons = [ability.practised or "", figures.reason]
        shown = measure if len(ability.measures) > 1 else ""
        rows.append(_row(name, shown, figures, ability.status, status, "; ".join(filter(None, reasons))))
    return rows


def measure_rows(abilities: Mapping[str, Ability]) -> list[Row]:
    """One row per measure of every ability."""
    return [
        _row(name, label, measure, measure.status, _measure_status(ability, measure), measure.reason)
        for name, ability in abilities.items()
        for label, measure in ability.measures.items()
    ]


def _measure_status(ability: Ability, measure: Measure) -> str:
    """The status of a measure by the suite's rule, which does not count where training practised the ability."""
    status = f"{SYMBOLS[measure.status]} {measure.status}"
    return f"{status}, practised" if ability.status == "practised" else status


def bars(abilities: Mapping[str, Ability]) -> list[Bar]:
    """The chart's rows: tuned / base of scores, and exp(−difference) of losses, the ratio of probability per token."""
    return [_bar(name, ability) for name, ability in abilities.items()]


def _bar(name: str, ability: Ability) -> Bar:
    _, figures = ability.decisive
    if not figures.has_interval:
        point = low = high = float("nan")
    else:
        point, low, high = figures.point, figures.low95, figures.upper
    limit = figures.limit
    if figures.kind == "loss":
        point, low, high, limit = (_retained_probability(value) for value in (point, high, low, limit))
    return Bar(name, figures.kind, ability.status, point, low, high, limit)


def _retained_probability(loss_change: float) -> float:
    return exp(min(-loss_change, _LARGEST_GAIN_NATS))


def _row(name: str, measure: str, figures: Figures, status: Status, status_text: str, reason: str) -> Row:
    kind = figures.kind
    if figures.has_interval:
        ends = (text.change(end, kind, with_unit=False) for end in (figures.low95, figures.upper))
        interval = " to ".join(ends)
    else:
        interval = text.NONE
    return Row(
        name=name,
        measure=measure,
        n=text.count(figures.n),
        base=text.measured(figures.base, kind),
        tuned=text.measured(figures.tuned, kind),
        change=text.change(figures.point, kind),
        interval=interval,
        limit=text.change(figures.limit, kind),
        status=status,
        status_text=status_text,
        reason=reason,
    )
