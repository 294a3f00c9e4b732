"""The page of a sweep: every trial as a dot and as a row of a table, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from keeptune.report import plots
from keeptune.report.page import environment


def page(made: dict[str, Any]) -> str:
    """sweep.html, from sweep.json."""
    complete = [trial for trial in made["trials"] if trial["state"] == "complete"]
    names = [setting.partition("=")[0] for setting in made["trials"][0]["settings"]]
    rows = [{**trial, "values": _values(trial["settings"]), "mark": _mark(trial, made)} for trial in made["trials"]]
    drawn = [
        (t["number"] + 1, t["kept"], t["accuracy"], t["trainable"], t["number"] in made["front"]) for t in complete
    ]
    return (
        environment()
        .get_template("sweep.html")
        .render(sweep=made, names=names, rows=rows, plot=Markup(plots.runs(drawn, made["threshold"])))
    )


def _values(settings: Sequence[str]) -> list[str]:
    return [setting.partition("=")[2] for setting in settings]


def _mark(trial: dict[str, Any], made: dict[str, Any]) -> str:
    if trial["number"] == made["best"]:
        return "best"
    return "front" if trial["number"] in made["front"] else trial["state"] if trial["state"] != "complete" else ""
