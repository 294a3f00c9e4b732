"""The command line: each verb parses, calls, prints. What a verb does stands elsewhere, imported when it is called.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 2 usage or recipe, 3 data,
4 gate failed, 5 interrupted and resumable, 6 undecided (errors.py draws the tree).
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

from keeptune.cli import formats, gate, jobs, scores
from keeptune.cli.console import ConsoleReporter
from keeptune.config.aliases import DeprecatedKeyWarning
from keeptune.errors import Interrupted, KeeptuneError

VERBS: dict[str, Callable[..., None]] = {
    "run": jobs.run,
    "recover": jobs.recover,
    "sweep": jobs.sweep,
    "gate": gate.gate,
    "verify": scores.verify,
    "compare": scores.compare,
    "plan": jobs.plan,
    "data": jobs.data,
    "train": jobs.train,
    "select": jobs.select,
    "report": jobs.report,
    "score": scores.score,
    "ask": scores.ask,
    "export": formats.export,
    "import": formats.import_,
    "synth": formats.synth,
}
"""In the order in which `keeptune --help` lists them."""


class _Stopped(BaseException):
    """The process was asked to stop. Neither typer nor an `except Exception` on the way can swallow it."""


def main() -> None:
    """The command `keeptune`: runs a verb, and turns keeptune's errors into one message and their exit code."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("once", category=DeprecatedKeyWarning)
    warnings.showwarning = _deprecations_in_one_line(warnings.showwarning)
    # PEFT imports it wherever it is installed, and it then says which kernels it has not got.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Training waits for the end of its step instead (train/loop.py); no other stage has anything to save.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        # However a command ends, it leaves no bar behind, and the cursor.
        with closing(ConsoleReporter()) as reporter:
            _application()(obj=reporter)
    except KeeptuneError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except _Stopped:
        _complain("stopped; run the same command again to go on")
        sys.exit(Interrupted.exit_code)


def _application() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Teach an open language model a narrow skill with LoRA, and prove that it kept what it knew.",
    )
    app.callback()(_global_options)
    for name, verb in VERBS.items():
        app.command(name)(verb)
    return app


def _deprecations_in_one_line(show: Callable[..., None]) -> Callable[..., None]:
    """Returns a `warnings.showwarning` that prints a deprecated recipe key without a place in the code, on rank 0."""

    def show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, DeprecatedKeyWarning):
            show(message, category, *place)
        elif os.environ.get("RANK", "0") == "0":
            _complain(f"warning: {message}")

    return show_warning


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"keeptune {metadata.version('keeptune')}")
        raise typer.Exit


def _global_options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """The options of the command itself, before any verb."""


def _complain(message: str) -> None:
    # Which one says it, where a launcher has started several processes.
    number = os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"
    print(f"keeptune{f' (process {number})' if number != '0' else ''}: {message}", file=sys.stderr)


def _stop(number: int, _: Any) -> None:
    raise _Stopped(number)
