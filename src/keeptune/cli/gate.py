"""The verb that judges what a tuned model retained, whoever tuned it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.options import Suite, json_text
from keeptune.config.ability_names import ABILITY_NAMES, ALL, split_names, unknown_name
from keeptune.errors import EXIT_GATE_FAILED, EXIT_UNDECIDED, RecipeError

_EXIT_CODES = {"pass": 0, "fail": EXIT_GATE_FAILED, "undecided": EXIT_UNDECIDED}


def gate(
    context: typer.Context,
    base: Annotated[str, typer.Option(help="the base: a model folder, a hub id, smollm2-135m, or a result file")],
    tuned: Annotated[str, typer.Option(help="the tuned model: the same, a PEFT adapter, or a run directory")],
    abilities: Annotated[str, typer.Option(help=f"`all`, or some of {', '.join(ABILITY_NAMES)}")] = "all",
    suite: Suite = "standard",
    questions: Annotated[Path | None, typer.Option(help="questions of your own, as JSON Lines")] = None,
    grader: Annotated[str | None, typer.Option(help="exact, contains, f1 or number, where a line names none")] = None,
    training_rows: Annotated[
        Path | None, typer.Option(help="what the tuned model was trained on, to find overlap; known for a run")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="ask in five parts, and stop an ability once it is decided")
    ] = False,
    threshold: Annotated[
        list[str], typer.Option(metavar="[NAME=]SHARE", help="lower bound of tuned / base, of one ability or all")
    ] = ["0.9"],  # noqa: B006  (typer copies it)
    margin: Annotated[
        list[str], typer.Option(metavar="[NAME=]NATS", help="upper bound of the growth of losses, per token")
    ] = ["0.1"],  # noqa: B006
    scale: Annotated[
        float | None, typer.Option(help="how much of the adapter's change counts; default: its card's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="folder for gate.json, gate.md, gate.xml and all answers")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    as_junit: Annotated[bool, typer.Option("--junit", help="print JUnit XML")] = False,
) -> None:
    """Judges which abilities of the base the tuned model kept. Exit codes: 0 pass, 4 lost, 6 undecided."""
    if as_json + as_markdown + as_junit > 1:
        raise RecipeError("--json, --markdown and --junit: give at most one")
    names = split_names(abilities)
    if fault := unknown_name(names):
        raise RecipeError(f"--abilities: {fault}")
    thresholds, margins = _by_ability("--threshold", threshold, 0.9, 1.0), _by_ability("--margin", margin, 0.1, 100.0)
    from keeptune.evaluation import verdict_text
    from keeptune.evaluation.gate import Limits
    from keeptune.pipeline.gate_job import GateRequest
    from keeptune.pipeline.gate_job import gate as judge

    if not names and questions is None:
        raise RecipeError("--abilities is empty; name some, or give --questions FILE")
    limits = Limits(thresholds.pop(ALL), margins.pop(ALL), thresholds, margins)
    request = GateRequest(
        base, tuned, names, suite, questions, grader, training_rows, sequential, scale, limits, seed=seed
    )
    made = judge(request, out, context.obj)
    shown = {"json": json_text, "markdown": verdict_text.format_markdown, "junit": verdict_text.format_junit}
    style = "json" if as_json else "markdown" if as_markdown else "junit" if as_junit else None
    print((shown[style] if style else verdict_text.format_text)(made))
    sys.exit(_EXIT_CODES[made["gate"]["verdict"]])


def _by_ability(option: str, given: list[str], default: float, largest: float) -> dict[str, float]:
    """The limits by ability, `all` among them. Raises RecipeError naming what cannot be used."""
    found = {ALL: default}
    for own in given:
        name, _, value = own.rpartition("=")
        if fault := unknown_name([name or ALL]):
            raise RecipeError(f"{option} {own}: {fault}")
        try:
            limit = float(value)
        except ValueError:
            raise RecipeError(f"{option} {own}: write a number, or NAME=NUMBER for one ability") from None
        if not 0 < limit <= largest:
            raise RecipeError(f"{option} {own}: must be above 0 and at most {largest:g}")
        found[name or ALL] = limit
    return found
