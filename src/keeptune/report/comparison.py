"""The page of `keeptune compare`: scores, retention and cost of runs, and paired differences with intervals."""

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


def page(comparison: Row) -> str:
    """The page as HTML, from the result of `compare`."""
    rows = [{**row, "ratio": Ratio.model_validate(row["ratio"])} for row in comparison["runs"]]
    kinds = sorted({kind for row in rows for kind in row["skill"]["by_kind"]})
    threshold = max(row["threshold"] for row in rows)
    points = [
        (number, _retained_share(row), row["skill"]["accuracy"], row["parameters"]["trainable"], row["gate"] == "pass")
        for number, row in enumerate(rows, start=1)
    ]
    return (
        environment()
        .get_template("comparison.html")
        .render(
            runs=rows,
            problem_count=rows[0]["skill"]["n"],
            reading_count=rows[0]["retained"]["n"],
            kinds={kind: [row["skill"]["by_kind"].get(kind) for row in rows] for kind in kinds},
            differences=[_differences(number, row) for number, row in enumerate(rows[1:], start=2)],
            standings=leaderboard_rows(comparison),
            plot=Markup(plots.runs(points, threshold)),
        )
    )


def _retained_share(row: Row) -> float:
    """The lower of tuned / base for F1 and EM; 0 if the base scored 0."""
    points = row["ratio"].f1.point, row["ratio"].em.point
    return min(0.0 if isnan(point) else point for point in points)


def _differences(number: int, row: Row) -> list[str]:
    """A row of the table of differences: each measure with its interval, and McNemar's p-value."""
    difference, name = row["difference"], f"{number} {row['run']}"
    if difference is None:
        return [name, *(["other questions"] * len(MEASURES)), text.NONE]
    cells = [
        f"{estimate['point']:+.1f} ({estimate['low95']:+.1f} to {estimate['high95']:+.1f})"
        for estimate in (difference[key] for key in MEASURES)
    ]
    return [name, *cells, text.p_value(difference["mcnemar_p"])]
