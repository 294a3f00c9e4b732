"""The report of a finished run: one self-contained HTML page, and the same figures in Markdown.

Everything in it comes from the run directory. Texts of data sets and models are untrusted: the templates escape every
value, and only our own plots are inserted as markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keeptune.files import write_text
from keeptune.grading.number import HEADLINE
from keeptune.progress import printable
from keeptune.report import examples, item_views, plots, shipped, suite_plot, text
from keeptune.report import finished_run as facts
from keeptune.report.abilities import MEASURES_HEAD, TABLE_HEAD, ability_rows, bars, measure_rows
from keeptune.report.finished_run import Facts
from keeptune.report.grader_figures import confusion_matrix, figure_rows
from keeptune.report.items import flipped_items
from keeptune.report.markdown import markdown
from keeptune.report.wording import (
    POLICIES,
    PREDICTIONS,
    SOURCES,
    TASKS,
    kind_order,
    predictions,
    reading_metrics,
    retained_count,
    skill_label,
    tasks,
    unmeasured,
    verdict_wording,
)
from keeptune.run_files.directory import RunDirectory


def write_report(run: Path) -> Path:
    """Writes report.html and report.md into the run directory and returns the path of the page.

    Raises:
        RunError: naming the file of the run that is missing or damaged.
    """
    finished = facts.read(run)
    directory = RunDirectory(run)
    write_text(directory.report_markdown, printable(markdown(finished)))
    write_text(directory.report_html, printable(html(finished)))
    return directory.report_html


def html(finished: Facts) -> str:
    """The page."""
    result, order = finished.result, kind_order(finished)
    return (
        environment()
        .get_template("page.html")
        .render(
            run=finished,
            result=result,
            verdict=verdict_wording(result),
            unmeasured=unmeasured(result),
            retained_count=retained_count(result),
            skill_label=skill_label(result.skill),
            abilities_head=TABLE_HEAD,
            ability_rows=ability_rows(result.abilities, result.gate.policy),
            measures_head=MEASURES_HEAD,
            measure_rows=measure_rows(result.abilities),
            suite_plot=Markup(suite_plot.suite(bars(result.abilities))) if result.abilities else "",
            shipped_head=shipped.HEAD,
            shipped_rows=shipped.rows(finished.artefacts),
            flipped=flipped_items(finished.folder, result.abilities),
            order=order,
            marks={
                name: kind
                for name, kind in finished.card.kinds.items()
                if kind.unseen or kind.near_duplicates or kind.too_coarse
            },
            policies=POLICIES,
            sources=SOURCES,
            reading_metrics=reading_metrics(result.retained),
            tasks=tasks(result.retained),
            tasks_head=TASKS,
            predictions=predictions(result.retained),
            predictions_head=PREDICTIONS,
            most_kinds=plots.MOST_KINDS,
            kinds_plot=Markup(plots.kinds(result.skill, order)),
            retention_plot=Markup(plots.retention(result.retained.ratio, result.gate)),
            loss_plots={kind: Markup(plot) for kind, plot in plots.losses(finished.steps).items()},
            dev_plot=Markup(plots.dev(finished.dev_scores) or ""),
            frontier_plot=Markup(plots.frontier(result.chosen, result.gate.threshold) or ""),
            right=examples.pick(finished.base_answers, finished.tuned_answers, right=True),
            wrong=examples.pick(finished.base_answers, finished.tuned_answers, right=False),
            reading=examples.pick_reading(finished.base_reading, finished.tuned_reading),
            headline=HEADLINE,
            grader_figures=figure_rows(result.skill),
            confusion=confusion_matrix(result.skill.tuned),
        )
    )


def environment() -> Environment:
    """The environment of our templates: every value is escaped, and an unknown name is an error."""
    templates = Environment(
        loader=PackageLoader("keeptune.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(_filters())
    return templates


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
    return {**{function.__name__: function for function in shared}, "item_view": item_views.view}
