"""The page of a comparison: what runs reached, kept and cost on the same questions, and what is more than chance."""

from __future__ import annotations

from math import isnan
from typing import Any

from markupsafe import Markup

from keeptune.evaluation.comparison import leaderboard_rows
from keeptune.report import plots, text
from keeptune.report.page import environment
from keeptune.run_files.retention import Ratio

Row = dict[str, Any]

MEASURES = ("skill", "f1", "em")


def page(made: Row) -> str:
    """The page, from what `compare` found."""
    rows = [{**row, "ratio": Ratio.model_validate(row["ratio"])} for row in made["runs"]]
    kinds = sorted({kind for row in rows for kind in row["skill"]["by_kind"]})
    threshold = max(row["threshold"] for row in rows)
    drawn = [
        (number, _kept(row), row["skill"]["accuracy"], row["parameters"]["trainable"], row["gate"] == "pass")
        for number, row in enumerate(rows, start=1)
    ]
    return (
        environment()
        .get_template("comparison.html")
        .render(
            runs=rows,
            asked=rows[0]["skill"]["n"],
            read=rows[0]["retained"]["n"],
            kinds={kind: [row["skill"]["by_kind"].get(kind) for row in rows] for kind in kinds},
            differences=[_differences(number, row) for number, row in enumerate(rows[1:], start=2)],
            standings=leaderboard_rows(made),
            plot=Markup(plots.runs(drawn, threshold)),
        )
    )


def _kept(row: Row) -> float:
    """The worse of F1's and EM's share that was kept; 0 where the base had nothing to keep."""
    points = row["ratio"].f1.point, row["ratio"].em.point
    return min(0.0 if isnan(point) else point for point in points)


def _differences(number: int, row: Row) -> list[str]:
    """A line of the table of differences: each measure with its interval, and the test's p."""
    found, name = row["difference"], f"{number} {row['run']}"
    if found is None:
        return [name, *(["other questions"] * len(MEASURES)), text.NONE]
    told = [
        f"{found[key]['point']:+.1f} ({found[key]['low95']:+.1f} to {found[key]['high95']:+.1f})" for key in MEASURES
    ]
    return [name, *told, text.p_value(found["mcnemar_p"])]
