"""The report of a finished run: one HTML page that needs nothing else, and the same facts in Markdown.

Everything in it comes from the run directory. Texts of data sets and models are untrusted: the template escapes all
that it is given, and only our own drawings go in as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keeptune.files import write_text
from keeptune.report import examples, facts, plots, text
from keeptune.report.facts import Facts
from keeptune.report.markdown import markdown
from keeptune.report.wording import (
    POLICIES,
    PREDICTIONS,
    SOURCES,
    TASKS,
    VERDICTS,
    kind_order,
    predictions,
    reading_metrics,
    tasks,
)


def write_report(run: Path) -> Path:
    """report.html, written into the run directory beside report.md: what was learnt, what was kept, and the proof.

    errors: RunError naming the file of the run that is missing or damaged.
    """
    found = facts.read(run)
    write_text(run / "report.md", markdown(found))
    page = run / "report.html"
    write_text(page, html(found))
    return page


def html(found: Facts) -> str:
    """The page."""
    result, order = found.result, kind_order(found)
    return (
        environment()
        .get_template("page.html")
        .render(
            run=found,
            result=result,
            verdict=VERDICTS[result.gate.verdict],
            order=order,
            marks={
                name: kind
                for name, kind in found.card.kinds.items()
                if kind.unseen or kind.near_duplicates or kind.too_coarse
            },
            policies=POLICIES,
            sources=SOURCES,
            reading_metrics=reading_metrics(result.retained),
            tasks=tasks(result.retained),
            tasks_head=TASKS,
            predictions=predictions(result.retained),
            predictions_head=PREDICTIONS,
            kinds_plot=Markup(plots.kinds(result.skill, order)),
            retention_plot=Markup(plots.retention(result.retained.ratio, result.gate)),
            loss_plots={kind: Markup(plot) for kind, plot in plots.losses(found.steps).items()},
            dev_plot=Markup(plots.dev(found.dev_scores) or ""),
            frontier_plot=Markup(plots.frontier(result.chosen, result.gate.threshold) or ""),
            right=examples.pick(found.base_answers, found.tuned_answers, right=True),
            wrong=examples.pick(found.base_answers, found.tuned_answers, right=False),
            reading=examples.pick_reading(found.base_reading, found.tuned_reading),
            headline=examples.HEADLINE,
        )
    )


def environment() -> Environment:
    """What renders our templates: all texts are escaped, and a name that is missing is an error."""
    made = Environment(
        loader=PackageLoader("keeptune.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_filters())
    return made


def _filters() -> dict[str, Any]:
    shared = (
        text.percent,
        text.decimal,
        text.count,
        text.part,
        text.share_interval,
        text.ratio_interval,
        text.gain,
        text.p_value,
        text.duration,
        text.moment,
        text.size,
        text.truth,
        text.language,
        text.settings,
    )
    return {function.__name__: function for function in shared}
