"""report.md: the main figures of report.html, for a repository, an issue or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from keeptune.report import shipped, text
from keeptune.report.abilities import MEASURES_HEAD, TABLE_HEAD, ability_rows, measure_rows
from keeptune.report.finished_run import Facts
from keeptune.report.grader_figures import confusion_matrix, figure_rows
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
from keeptune.run_files.part import Estimate
from keeptune.run_files.result import Skill
from keeptune.run_files.retention import ReadingScore

_MARKUP = re.compile(r"([\\`*_\[\]|~#!$@])")
_LINE_END = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def markdown(finished: Facts) -> str:
    """The report as Markdown."""
    result = finished.result
    verdict = verdict_wording(result)
    change = f"{text.percent(result.skill.base.accuracy)} → {text.percent(result.skill.tuned.accuracy)}"
    skill = f"{skill_label(result.skill)}: {change} (n = {text.count(result.skill.tuned.n)})"
    blocks = [
        f"# {plain(result.name)}",
        f"**{verdict.word}. {skill}.** {plain(verdict.sentence)}",
        f"> {plain(result.gate.reason)}",
        plain(verdict.scope),
        _headline(finished),
        *_abilities(finished),
        *_shipped(finished),
        "## Skill",
        *_skill(finished),
        "## Retention",
        *_retained(finished),
        "## Data",
        *_data(finished),
        "## Training and environment",
        *_training(finished),
    ]
    return "\n\n".join(blocks) + "\n"


def plain(written: str) -> str:
    """The text as Markdown shows it literally, on one line, also in a table cell."""
    return _LINE_END.sub("<br>", _MARKUP.sub(r"\\\1", escape(written, quote=False)))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 0) -> str:
    """A GitHub table: the first column and the last `texts` are text, all others figures. Cells must be Markdown."""
    ruler = ["---", *["---:"] * (len(head) - 1 - texts), *["---"] * texts]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def fenced(written: str) -> str:
    """The text in a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", written)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{written}\n{fence}"


def _headline(finished: Facts) -> str:
    result = finished.result
    ratio, parameters = result.retained.ratio, result.parameters
    return table(
        ["", "value", "95 % interval"],
        [
            ["Skill before", text.percent(result.skill.base.accuracy), text.share_interval(result.skill.base)],
            ["Skill after", text.percent(result.skill.tuned.accuracy), text.share_interval(result.skill.tuned)],
            *([["Counted abilities retained", *retained_count(result)]] if result.abilities else []),
            ["Reading F1, tuned / base", text.percent(ratio.f1.point), text.ratio_interval(ratio.f1)],
            ["Reading EM, tuned / base", text.percent(ratio.em.point), text.ratio_interval(ratio.em)],
            ["Trainable parameters", text.count(parameters.trainable), f"{text.percent(parameters.ratio, 4)} of all"],
            ["Contest score, phase 1", text.decimal(result.contest.phase1, 4), ""],
        ],
    )


def _abilities(finished: Facts) -> list[str]:
    """The retention suite, with the figures of the measure that decides each status."""
    rows = [
        [
            f"{plain(row.name)}, {plain(row.measure)}" if row.measure else plain(row.name),
            *(row.n, row.base, row.tuned, row.change, row.interval),
            f"{plain(row.status_text)}<br>{plain(row.reason)}",
        ]
        for row in ability_rows(finished.result.abilities, finished.result.gate.policy)
    ]
    return [table(TABLE_HEAD, rows, texts=1)] if rows else []


def _shipped(finished: Facts) -> list[str]:
    """The artefacts of the run, judged in the programs that serve them."""
    cells = [
        [
            f"{plain(row.name)}<br>{plain(row.program)}",
            *(plain(part) for part in (row.prompts, row.equal, row.right, row.change, row.abilities)),
            "<br>".join(plain(part) for part in (f"{row.verdict}: {row.reason}", *row.notes)),
        ]
        for row in shipped.rows(finished.artefacts)
    ]
    return ["## What you ship", table(shipped.HEAD, cells, texts=1)] if cells else []


def _measures(finished: Facts) -> list[str]:
    rows = [
        [
            plain(row.name),
            plain(row.measure),
            *(row.n, row.base, row.tuned, row.change, row.interval, row.limit),
            plain(row.status_text),
        ]
        for row in measure_rows(finished.result.abilities)
    ]
    return [table(["ability", *MEASURES_HEAD], rows, texts=1)] if rows else []


def _skill(finished: Facts) -> list[str]:
    skill = finished.result.skill
    kinds = []
    for kind in kind_order(finished):
        before, after = skill.base.by_kind.get(kind), skill.tuned.by_kind[kind]
        old = [text.percent(before.accuracy), text.share_interval(before)] if before else [text.NONE, text.NONE]
        kinds.append([plain(kind), text.count(after.n), *old, text.percent(after.accuracy), text.share_interval(after)])
    policies = [
        [
            f"{plain(name)}: {POLICIES[name]}" if name in POLICIES else plain(name),
            text.percent(skill.base.by_policy.get(name, float("nan"))),
            text.percent(share),
        ]
        for name, share in skill.tuned.by_policy.items()
    ]
    used = [name for name in SOURCES if name in {**skill.base.by_source, **skill.tuned.by_source}]
    sources = [
        [
            plain(SOURCES[name]),
            text.count(skill.base.by_source.get(name, 0)),
            text.count(skill.tuned.by_source.get(name, 0)),
        ]
        for name in used
    ]
    sources.append(
        ["did not stop within the token budget", text.count(skill.base.unstopped), text.count(skill.tuned.unstopped)]
    )
    test = "paired bootstrap" if skill.mcnemar_p is None else f"McNemar {text.p_value(skill.mcnemar_p)}"
    return [
        f"Change: {text.gain(skill.difference)}, {test}.",
        table(["kind", "n", "base", "95 %", "tuned", "95 %"], kinds),
        *([table(["accuracy by policy", "base", "tuned"], policies)] if policies else []),
        *_grader_figures(skill),
        table(["answer location", "base", "tuned"], sources),
    ]


def _grader_figures(skill: Skill) -> list[str]:
    """The figures of the grader, and the confusion matrix of the tuned model."""
    if skill.tuned.grader is None:
        return []
    rows = [[plain(name), base, tuned] for name, base, tuned in figure_rows(skill)]
    tables = [table([f"grader {plain(skill.tuned.grader)}", "base", "tuned"], rows)]
    if matrix := confusion_matrix(skill.tuned):
        columns, counts = matrix
        head = ["true label ↓ answer of tuned →", *map(plain, columns)]
        tables.append(table(head, [[plain(label), *cells] for label, cells in counts]))
    return tables


def _retained(finished: Facts) -> list[str]:
    retained = finished.result.retained
    rows = [
        [f"{plain(name)}, {variant}", *_reading(score)]
        for name, pair in reading_metrics(retained)
        for variant, score in (("base", pair.base), ("tuned", pair.tuned))
    ]
    ratios = {"F1": retained.ratio.f1, "EM": retained.ratio.em}
    if retained.ratio.likelihood:
        ratios["Likelihood of the reference answers"] = retained.ratio.likelihood
    return [
        plain(unmeasured(finished.result)),
        *_measures(finished),
        f"Reading set: {plain(retained.set)}, prompt {plain(retained.prompt)}. "
        + " ".join(f"{name}, tuned / base: {_ratio(estimate)}." for name, estimate in ratios.items()),
        table(["metric", "F1", "EM", "questions", "empty", "unstopped"], rows),
        *([table(TASKS, task_rows)] if (task_rows := tasks(retained)) else []),
        *([table(PREDICTIONS, loss_rows)] if (loss_rows := predictions(retained)) else []),
    ]


def _reading(score: ReadingScore) -> list[str]:
    return [
        text.decimal(score.f1),
        text.decimal(score.em),
        text.count(score.n),
        text.part(score.empty, score.n),
        text.part(score.unstopped, score.n),
    ]


def _ratio(estimate: Estimate) -> str:
    return f"{text.percent(estimate.point)} ({text.ratio_interval(estimate)})"


def _data(finished: Facts) -> list[str]:
    card = finished.card
    kinds = [
        [plain(name), *(text.count(n) for n in (kind.rows, kind.unique, kind.chosen, kind.train, kind.dev, kind.test))]
        for name, kind in card.kinds.items()
        if kind.rows or kind.test
    ]
    blocks = [
        f"{text.count(card.rows_read)} rows read, {text.count(card.rows_rejected)} rejected, "
        f"{text.count(card.unique)} unique, {text.count(card.truncated)} truncated. Data hash `{card.data_sha256}`.",
        table(["kind", "rows", "unique", "selected", "train", "dev", "test"], kinds),
    ]
    if card.rejected_by_reason:
        reasons = [[plain(reason), text.count(rows)] for reason, rows in card.rejected_by_reason.items()]
        blocks.append(table(["reason for rejection", "rows"], reasons))
    return blocks


def _training(finished: Facts) -> list[str]:
    result, manifest = finished.result, finished.manifest
    stages = [[plain(stage), text.duration(seconds)] for stage, seconds in result.cost.seconds_by_stage.items()]
    hardware = manifest.hardware
    git = f"{manifest.git.commit}{' with changes' if manifest.git.dirty else ''}" if manifest.git else "not a checkout"
    facts = [
        ["model", plain(result.model)],
        ["checkpoint", f"{plain(result.chosen.checkpoint)}, scale {result.chosen.scale:g}"],
        ["keeptune", plain(f"{manifest.keeptune} ({git})")],
        ["python", plain(manifest.python)],
        ["platform", plain(manifest.platform)],
        ["hardware", plain(f"{hardware.cpu}, {hardware.cores} cores, {text.size(hardware.memory_bytes)}")],
        ["accelerator", plain(hardware.accelerator or "none")],
        ["seed", str(manifest.seed)],
        ["started, finished", plain(f"{text.moment(manifest.started)}, {text.moment(result.finished)}")],
        *([f"hash of {plain(name)}", f"`{value}`"] for name, value in manifest.hashes.items() if value),
    ]
    choice = [
        [
            plain(one.checkpoint),
            f"{one.scale:g}",
            *map(text.percent, (one.accuracy, one.kept)),
            plain(", ".join(one.lost)) or text.NONE,
        ]
        for one in result.chosen.candidates
    ]
    return [
        f"Prompt, sha256 `{result.prompt.sha256}`:",
        fenced(result.prompt.template),
        *(
            [table(["checkpoint", "scale", "dev accuracy", "reading retained", "lost on dev"], choice)]
            if choice
            else []
        ),
        table(["stage", "time"], [*stages, ["all", text.duration(result.cost.seconds)]]),
        "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts)]),
        "`recipe.yaml` has the complete recipe, `scores/` all answers.",
    ]
