"""The verbs before the first run: `init` writes a recipe for a file of rows, `doctor` examines the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.options import AsJson, json_text
from keeptune.cli.terminal import show
from keeptune.errors import RunError


def init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="file of rows in any supported format, or hf:NAME")],
    model: Annotated[str, typer.Option(help="base model, as in a recipe")] = "smollm2-135m",
    out: Annotated[Path, typer.Option(help="recipe to write; the file must not exist")] = Path("recipe.yaml"),
) -> None:
    """Write a commented recipe for a file of rows: format, columns, kinds, grader, lengths, budget and suite.

    The columns and the grader are guesses from the first 5,000 rows. Read the comments before the first run.
    """
    from keeptune.pipeline.new_recipe import write_recipe

    for line in write_recipe(file, out, model):
        show(line, file=sys.stderr)
    show(out)


def doctor(as_json: AsJson = False) -> None:
    """List device, precision, memory, cores and packages, and what a run will use and why.

    Exit code 2: a required package is missing, or a configured program does not work.
    """
    from dataclasses import asdict

    from keeptune.pipeline.doctor import examine, text

    findings = examine()
    show(json_text([asdict(finding) for finding in findings]) if as_json else text(findings))
    if any(finding.is_fault for finding in findings):
        sys.exit(RunError.exit_code)
