"""The verb `gate`: judges which abilities any tuned model retained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.options import Suite, json_text, parse_setting
from keeptune.cli.terminal import show
from keeptune.config.ability_names import ABILITY_NAMES, ALL, split_names, unknown_name
from keeptune.errors import EXIT_GATE_FAILED, EXIT_UNDECIDED, RecipeError

_EXIT_CODES = {"pass": 0, "fail": EXIT_GATE_FAILED, "undecided": EXIT_UNDECIDED}


def gate(
    context: typer.Context,
    base: Annotated[str, typer.Option(help="base model: folder, hub id, smollm2-135m, or result file")],
    tuned: Annotated[str, typer.Option(help="tuned model: the same, or a PEFT adapter or run directory")],
    abilities: Annotated[
        str, typer.Option(help=f"`all`, or names separated by commas: {', '.join(ABILITY_NAMES)}")
    ] = "all",
    suite: Suite = "standard",
    questions: Annotated[Path | None, typer.Option(help="JSON Lines file with further questions")] = None,
    grader: Annotated[
        str | None, typer.Option(help="default grader of --questions: its name, or YAML with its name and options")
    ] = None,
    training_rows: Annotated[
        Path | None, typer.Option(help="the tuned model's training rows, to find overlap; not needed for a run")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="evaluate in five parts, and stop each ability once it is decided")
    ] = False,
    threshold: Annotated[
        list[str], typer.Option(metavar="[NAME=]SHARE", help="required tuned / base, for one ability or all")
    ] = ["0.9"],  # noqa: B006  (typer copies it)
    margin: Annotated[
        list[str], typer.Option(metavar="[NAME=]NATS", help="allowed loss increase per token, for one ability or all")
    ] = ["0.1"],  # noqa: B006
    scale: Annotated[
        float | None, typer.Option(help="factor on the adapter's change; default: the stored scale")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="random seed")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder for gate.json, gate.md, gate.xml and all answers")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    as_junit: Annotated[bool, typer.Option("--junit", help="print JUnit XML")] = False,
) -> None:
    """Judge which abilities of the base model a tuned model retained.

    Exit codes: 0 pass, 4 lost, 6 undecided.
    """
    if as_json + as_markdown + as_junit > 1:
        raise RecipeError("--json, --markdown and --junit exclude each other; give one")
    names = split_names(abilities)
    if fault := unknown_name(names):
        raise RecipeError(f"--abilities: {fault}")
    thresholds, margins = _by_ability("--threshold", threshold, 0.9, 1.0), _by_ability("--margin", margin, 0.1, 100.0)
    from keeptune.evaluation import verdict_text
    from keeptune.evaluation.gate import Limits
    from keeptune.pipeline.gate_job import GateRequest
    from keeptune.pipeline.gate_job import gate as judge

    if not names and questions is None:
        raise RecipeError("--abilities is empty; name abilities, or give --questions FILE")
    limits = Limits(thresholds.pop(ALL), margins.pop(ALL), thresholds, margins)
    setting = parse_setting("--grader", grader) if grader else None
    request = GateRequest(
        base, tuned, names, suite, questions, setting, training_rows, sequential, scale, limits, seed=seed
    )
    record = judge(request, out, context.obj)
    writers = {json_text: as_json, verdict_text.format_markdown: as_markdown, verdict_text.format_junit: as_junit}
    write = next((writer for writer, is_requested in writers.items() if is_requested), verdict_text.format_text)
    show(write(record))
    sys.exit(_EXIT_CODES[record["gate"]["verdict"]])


def _by_ability(option: str, values: list[str], default: float, maximum: float) -> dict[str, float]:
    """The limits by ability, and the default limit under `all`.

    Raises:
        RecipeError: when a value names an unknown ability or is not a number in range.
    """
    limits = {ALL: default}
    for text in values:
        name, _, value = text.rpartition("=")
        if fault := unknown_name([name or ALL]):
            raise RecipeError(f"{option} {text}: {fault}")
        try:
            limit = float(value)
        except ValueError:
            raise RecipeError(f"{option} {text}: must be NUMBER, or NAME=NUMBER for one ability") from None
        if not 0 < limit <= maximum:
            raise RecipeError(f"{option} {text}: must be > 0 and at most {maximum:g}")
        limits[name or ALL] = limit
    return limits
