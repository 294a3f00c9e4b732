"""The suite's chart: each ability at its share on one axis, with its limit and its status in words."""

from math import exp, inf, nan
from typing import Any

import pytest
from report.test_plots import dots, tree, words

from keeptune.report.abilities import anchor, bars
from keeptune.report.suite_plot import SYMBOLS, Bar, suite
from keeptune.run_files.retention import Ability, Status


def bar(name: str, point: float, status: Status = "retained", **changes: Any) -> Bar:
    fields = {"kind": "score", "low": point - 0.1, "high": point + 0.1, "limit": 0.9, **changes}
    return Bar(name=name, status=status, point=point, **fields)


def ability(kind: str, point: float | None, low: float | None, high: float | None, limit: float) -> Ability:
    figures = {"kind": kind, "n": 50, "base": 0.5, "tuned": 0.5, "point": point, "low95": low, "high95": high}
    return Ability.model_validate({**figures, "limit": limit, "status": "retained", "counted": True})


def test_scores_come_before_losses_on_one_axis() -> None:
    drawing = suite([bar("prose", 0.9, kind="loss"), bar("facts", 0.9), bar("grammar", 1.0)])
    facts, grammar, prose = dots(drawing, "right")
    assert facts[0] == prose[0] < grammar[0]
    assert facts[1] < grammar[1] < prose[1]
    assert [word for word in words(drawing) if word in ("facts", "grammar", "prose")] == ["facts", "grammar", "prose"]


def test_loss_is_drawn_as_retained_probability() -> None:
    (bar,) = bars({"prose": ability("loss", 0.02, 0.01, 0.05, 0.1)})
    assert (bar.point, bar.low, bar.high, bar.limit) == pytest.approx((exp(-0.02), exp(-0.05), exp(-0.01), exp(-0.1)))


def test_non_finite_bounds() -> None:
    (unknown,) = bars({"a": ability("score", None, None, None, 0.9)})
    assert unknown.point != unknown.point
    (open_end,) = bars({"a": ability("score", 1.0, 0.5, None, 0.9)})
    assert open_end.high == inf
    (lower,) = bars({"a": ability("loss", -900.0, -1000.0, -800.0, 0.1)})
    assert lower.high < inf


@pytest.mark.parametrize("status", SYMBOLS)
def test_status_has_a_symbol_and_a_name(status: Status) -> None:
    drawing = suite([bar("facts", 0.95, status)])
    assert f"{SYMBOLS[status]} {status}" in words(drawing)


def test_symbols_differ() -> None:
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


@pytest.mark.parametrize("high", [1.2, 1e9, inf])
def test_interval_stays_inside_the_plot(high: float) -> None:
    drawing = suite([bar("facts", 1.1, high=high), bar("none", nan, low=nan, high=nan)])
    width = float(tree(drawing).attrib["viewBox"].split()[2])
    assert all(0 < x < width for x, _ in dots(drawing, "right"))
    assert "no interval" in words(drawing)


@pytest.mark.parametrize("name", ["a$b$c", "<b>&", "任务", "x" * 40])
def test_any_name_is_drawn(name: str) -> None:
    shown = [word for word in words(suite([bar(name, 1.0)])) if word[0] == name[0]]
    assert shown and (shown[0] == name or shown[0].endswith("…"))


@pytest.mark.parametrize(("name", "expected"), [("grammar", "ability-grammar"), ('a "b"/c', "ability-a-b-c")])
def test_anchors_are_ids(name: str, expected: str) -> None:
    assert anchor(name) == expected
