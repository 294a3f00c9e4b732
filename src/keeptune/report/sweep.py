"""The page of a sweep: a chart and a table of all trials, with the Pareto-optimal ones marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from keeptune.report import plots
from keeptune.report.page import environment


def page(sweep: dict[str, Any]) -> str:
    """sweep.html, from the content of sweep.json."""
    complete = [trial for trial in sweep["trials"] if trial["state"] == "complete"]
    names = [setting.partition("=")[0] for setting in sweep["trials"][0]["settings"]]
    rows = [{**trial, "values": _values(trial["settings"]), "mark": _mark(trial, sweep)} for trial in sweep["trials"]]
    points = [
        (t["number"] + 1, t["kept"], t["accuracy"], t["trainable"], t["number"] in sweep["front"]) for t in complete
    ]
    return (
        environment()
        .get_template("sweep.html")
        .render(sweep=sweep, names=names, rows=rows, plot=Markup(plots.runs(points, sweep["threshold"])))
    )


def _values(settings: Sequence[str]) -> list[str]:
    return [setting.partition("=")[2] for setting in settings]


def _mark(trial: dict[str, Any], sweep: dict[str, Any]) -> str:
    if trial["number"] == sweep["best"]:
        return "best"
    return "front" if trial["number"] in sweep["front"] else trial["state"] if trial["state"] != "complete" else ""
