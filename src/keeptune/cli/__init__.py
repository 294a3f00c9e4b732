"""The command line interface. Each verb parses its arguments, calls the function that does the work, and prints.

The modules of the work are imported when a verb runs, so that `keeptune --help` starts fast. Results go to standard
output, everything else to standard error. errors.py lists the exit codes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from typing import Annotated, Any

import typer

from keeptune.cli import evidence, formats, gate, jobs, scores, serving, setup
from keeptune.cli.console import ConsoleReporter
from keeptune.cli.terminal import show
from keeptune.config.aliases import DeprecatedKeyWarning
from keeptune.errors import Interrupted, KeeptuneError

VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "init": (setup.init, "keeptune init rows.csv --out recipe.yaml"),
    "doctor": (setup.doctor, "keeptune doctor --json"),
    "run": (jobs.run, "keeptune run recipes/quickstart.yaml --run runs/demo"),
    "recover": (jobs.recover, "keeptune recover runs/demo"),
    "sweep": (jobs.sweep, "keeptune sweep recipe.yaml --vary train.learning_rate=1e-5..1e-3 --trials 20"),
    "gate": (gate.gate, "keeptune gate --base smollm2-135m --tuned runs/demo --out verdict"),
    "verify": (scores.verify, "keeptune verify runs/demo"),
    "compare": (scores.compare, "keeptune compare runs/first runs/second --out compare.html"),
    "plan": (jobs.plan, "keeptune plan recipes/quickstart.yaml"),
    "data": (jobs.data, "keeptune data recipes/quickstart.yaml --run runs/demo"),
    "train": (jobs.train, "keeptune train runs/demo"),
    "select": (jobs.select, "keeptune select runs/demo"),
    "report": (jobs.report, "keeptune report runs/demo"),
    "score": (scores.score, "keeptune score runs/demo --skill test.jsonl --json"),
    "ask": (scores.ask, "keeptune ask runs/demo '计算 12.5 + 3 等于多少？'"),
    "serve": (serving.serve, "keeptune serve runs/demo --port 8000"),
    "studio": (serving.studio, "keeptune studio runs --recipe recipes/quickstart.yaml"),
    "export": (formats.export, "keeptune export runs/demo --to merged --out merged-model"),
    "bom": (evidence.bom, "keeptune bom runs/demo merged-model"),
    "sign": (evidence.sign, "keeptune sign runs/demo --key private.pem"),
    "push": (evidence.push, "keeptune push runs/demo acme/arithmetic --key private.pem"),
    "import": (formats.import_, "keeptune import finetune.yaml --out recipe.yaml"),
    "synth": (formats.synth, "keeptune synth --rows 10000 --seed 1 --out corpus.jsonl"),
}
"""Each verb's function and an example, in the order of `keeptune --help`."""


class _Stopped(BaseException):
    """The process received a stop signal. A BaseException, so that no `except Exception` catches it on the way."""


def main() -> None:
    """Runs the command `keeptune`. An error of keeptune becomes one message and its exit code."""
    try:
        _run()
    except SystemExit as end:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            raise
        from keeptune.training.distributed import end_process

        end_process(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


def _run() -> None:
    if sys.platform == "win32":
        _print_error("keeptune runs on Linux and macOS; on Windows, install and run it inside WSL")
        sys.exit(KeeptuneError.exit_code)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("once", category=DeprecatedKeyWarning)
    warnings.showwarning = _show_deprecated_keys(warnings.showwarning)
    # PEFT imports bitsandbytes wherever it is installed, and bitsandbytes then logs which kernels it lacks.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # During training, training.loop replaces these handlers and stops after the current step.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        # `closing` removes the progress bar and restores the cursor, however the command ends.
        with closing(ConsoleReporter()) as reporter:
            _application()(obj=reporter, prog_name="keeptune")
    except KeeptuneError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except _Stopped:
        _print_error("stopped; run the same command again to resume")
        sys.exit(Interrupted.exit_code)


def _application() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Fine-tune an open language model for one job, and measure whether it keeps its other abilities.",
    )
    app.callback()(_global_options)
    for name, (verb, example) in VERBS.items():
        app.command(name, epilog=f"Example: {example}")(verb)
    return app


def _show_deprecated_keys(show: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints a deprecated recipe key on one line, without a source line, on rank 0."""

    def show_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
        if not issubclass(category, DeprecatedKeyWarning):
            show(message, category, *location)
        elif os.environ.get("RANK", "0") == "0":
            _print_error(f"warning: {message}")

    return show_warning


def _print_version(is_given: bool) -> None:
    if is_given:
        show(f"keeptune {metadata.version('keeptune')}")
        raise typer.Exit


def _global_options(
    version: Annotated[  # noqa: ARG001  (its callback prints and exits)
        bool, typer.Option("--version", help="print the version and exit", is_eager=True, callback=_print_version)
    ] = False,
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="allow code that a recipe names (grader `function`, score.tasks_path)"),
    ] = False,
) -> None:
    # No docstring: typer would show it as the help of the whole command.
    if allow_code:
        from keeptune.grading.graders.user_function import allow_code as permit

        permit()


def _print_error(message: str) -> None:
    """Prints a message to standard error, with the process number if a launcher started several processes."""
    number = os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"
    show(f"keeptune{f' (process {number})' if number != '0' else ''}: {message}", file=sys.stderr)


def _stop(number: int, _: Any) -> None:
    raise _Stopped(number)
