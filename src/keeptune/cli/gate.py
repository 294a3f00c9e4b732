"""The verb `gate`: judges which abilities any tuned model retained, and what a run ships."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from keeptune.cli.options import json_text, parse_setting
from keeptune.cli.terminal import show
from keeptune.config.ability_names import ABILITY_NAMES, ALL, split_names, unknown_name
from keeptune.errors import EXIT_GATE_FAILED, EXIT_UNDECIDED, RecipeError

if TYPE_CHECKING:
    from keeptune.evaluation.gate import Limits

_EXIT_CODES = {"pass": 0, "fail": EXIT_GATE_FAILED, "undecided": EXIT_UNDECIDED}


RunOfArtefact = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="with --artefact: the run that the artefact is from")
]
Base = Annotated[
    str | None,
    typer.Option(
        help="base model: folder, hub id, smollm2-135m, or result file. With a GGUF adapter as --artefact: the GGUF "
        "export of the base"
    ),
]
Tuned = Annotated[str | None, typer.Option(help="tuned model: the same, or a PEFT adapter or run directory")]
ArtefactName = Annotated[
    str | None,
    typer.Option(
        "--artefact",
        metavar="PATH|URL",
        help="judge what RUN ships, in the program that serves it: an export folder, a GGUF file, or the address of a "
        "server with OpenAI's interface",
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="name of the model on the server; default: tuned, or the only one")
]
Names = Annotated[str, typer.Option(help=f"`all`, or names separated by commas: {', '.join(ABILITY_NAMES)}")]
SuiteOrDefault = Annotated[
    Literal["quick", "standard", "full"] | None,
    typer.Option(help="number of questions per ability; default: standard, with --artefact that of the run"),
]

_ARTEFACT_OPTIONS = frozenset({"run", "base", "artefact", "model", "abilities", "suite", "as_json"})
"""The parameters that `--artefact` accepts."""


def gate(
    context: typer.Context,
    run: RunOfArtefact = None,
    base: Base = None,
    tuned: Tuned = None,
    artefact: ArtefactName = None,
    model: ModelName = None,
    abilities: Names = "all",
    suite: SuiteOrDefault = None,
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
    """Judge which abilities of the base model a tuned model retained: any two models, or what a run ships.

    Exit codes: 0 pass, 4 lost, 6 undecided.
    """
    names = split_names(abilities)
    _check_combination(context, run, base, tuned, artefact)
    if as_json + as_markdown + as_junit > 1:
        raise RecipeError("--json, --markdown and --junit exclude each other; give one")
    if fault := unknown_name(names):
        raise RecipeError(f"--abilities: {fault}")
    if run is not None and artefact is not None:
        sys.exit(judge_artefact(context, run, artefact, base, model, names, suite, as_json))
    assert base is not None and tuned is not None  # _check_combination
    limits = _limits(threshold, margin)
    from keeptune.pipeline.gate_job import GateRequest
    from keeptune.pipeline.gate_job import gate as judge

    if not names and questions is None:
        raise RecipeError("--abilities is empty; name abilities, or give --questions FILE")
    setting = parse_setting("--grader", grader) if grader else None
    request = GateRequest(
        base, tuned, names, suite or "standard", questions, setting, training_rows, sequential, scale, limits, seed=seed
    )
    record = judge(request, out, context.obj)
    _show(record, as_json, as_markdown, as_junit)
    sys.exit(_EXIT_CODES[record["gate"]["verdict"]])


def _show(record: dict[str, Any], as_json: bool, as_markdown: bool, as_junit: bool) -> None:
    from keeptune.evaluation import verdict_text

    writers = {json_text: as_json, verdict_text.format_markdown: as_markdown, verdict_text.format_junit: as_junit}
    show(next((writer for writer, is_requested in writers.items() if is_requested), verdict_text.format_text)(record))


def judge_artefact(
    context: typer.Context,
    run: Path,
    artefact: str,
    base: str | None = None,
    model: str | None = None,
    abilities: tuple[str, ...] = (ALL,),
    suite: Literal["quick", "standard", "full"] | None = None,
    as_json: bool = False,
) -> int:
    """Judges what a run ships, prints the verdict, and returns the exit code."""
    from keeptune.evaluation.verdict_text import format_artefact
    from keeptune.pipeline.artefact_gate import ArtefactRequest, gate_artefact

    record = gate_artefact(ArtefactRequest(run, artefact, base, model, abilities, suite), context.obj)
    show(json_text(record) if as_json else format_artefact(record))
    return _EXIT_CODES[record["verdict"]]


def _check_combination(
    context: typer.Context, run: Path | None, base: str | None, tuned: str | None, artefact: str | None
) -> None:
    """Raises RecipeError unless the options are those of two models, or those of an artefact."""
    set_options = {name for name in context.params if _is_given(context, name)}
    if artefact is None:
        if run is not None or "model" in set_options:
            raise RecipeError(
                "RUN and --model are for --artefact PATH_OR_URL; compare two models by --base and --tuned"
            )
        if base is None or tuned is None:
            raise RecipeError("give --base and --tuned for two models, or RUN and --artefact for what the run ships")
        return
    if run is None:
        raise RecipeError("--artefact needs the run that it is from: keeptune gate RUN --artefact PATH_OR_URL")
    if other := sorted(set_options - _ARTEFACT_OPTIONS):
        names = ", ".join(f"--{name.removeprefix('as_').replace('_', '-')}" for name in other)
        raise RecipeError(f"--artefact is judged by the limits of the run, so it does not take {names}; remove it")


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _limits(threshold: list[str], margin: list[str]) -> Limits:
    """The limits that `--threshold` and `--margin` set.

    Raises:
        RecipeError: as `_by_ability`.
    """
    from keeptune.evaluation.gate import Limits

    thresholds, margins = _by_ability("--threshold", threshold, 0.9, 1.0), _by_ability("--margin", margin, 0.1, 100.0)
    return Limits(thresholds.pop(ALL), margins.pop(ALL), thresholds, margins)


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
