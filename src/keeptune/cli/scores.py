"""The verbs `score`, `ask`, `compare` and `verify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.evidence import needs_evidence
from keeptune.cli.options import AsJson, Suite, json_text, parse_setting
from keeptune.cli.terminal import show
from keeptune.config.ability_names import split_names
from keeptune.errors import DataError


def verify(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="run directory, --out folder of `keeptune gate`, export, or adapter"),
    ],
    key: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="public key: also check the signature"),
    ] = None,
) -> None:
    """Recompute all figures of a run or a gate folder from the stored answers, or compare an export with its hashes.

    An adapter with an invocation is also run with both models. Exit code 3: figures or files differ.
    """
    is_signed = key is None or _check_signature(folder, key)
    if not _check_figures(folder, is_required=key is None) or not is_signed:
        sys.exit(DataError.exit_code)


def _check_figures(folder: Path, is_required: bool) -> bool:
    """Prints whether all figures follow. Without `is_required`, a folder without figures passes."""
    from keeptune.pipeline.verification import text
    from keeptune.pipeline.verify import has_figures
    from keeptune.pipeline.verify import verify as check

    if not is_required and not has_figures(folder):
        return True
    result = check(folder)
    show(text(result))
    return not result.faults


def _check_signature(folder: Path, key: Path) -> bool:
    """Prints whether a folder is as it was signed."""
    with needs_evidence("verify --key"):
        from keeptune.export.signature import verify_signature
    changes = verify_signature(folder, key)
    show("\n".join(changes.lines()) if changes else f"signature: valid for {key}, all files are as they were signed")
    return not changes


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="run directories; the first is the reference")],
    other_questions: Annotated[
        bool, typer.Option("--other-questions", help="accept runs that were evaluated on different questions")
    ] = False,
    leaderboard: Annotated[bool, typer.Option("--leaderboard", help="add the contest's published results")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="PAGE.html", help="also write an HTML page")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: scores, cost, and paired differences from the first run."""
    from keeptune.evaluation.comparison import compare as side_by_side
    from keeptune.evaluation.comparison import format_comparison, format_leaderboard

    comparison = side_by_side(folders, other_questions)
    if out:
        from keeptune.files import write_text
        from keeptune.progress import printable
        from keeptune.report.comparison import page

        write_text(out, printable(page(comparison)))
    show(json_text(comparison) if as_json else format_comparison(comparison))
    if leaderboard and not as_json:
        show(f"\n{format_leaderboard(comparison)}")


def score(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="run directory, adapter folder or model")],
    skill: Annotated[Path | None, typer.Option(help="problems, in any format that the data stage reads")] = None,
    retained: Annotated[str | None, typer.Option(help="reading questions: SQuAD v1.1 file, or `embedded`")] = None,
    abilities: Annotated[
        str, typer.Option(help="abilities of the retention suite: `all`, or names separated by commas")
    ] = "",
    suite: Suite = "standard",
    limit: Annotated[int, typer.Option(min=0, help="at most this many questions per file; 0: all")] = 0,
    prompt: Annotated[
        str | None, typer.Option(help="another prompt: a template with {problem}, its name, or chat")
    ] = None,
    other_prompt: Annotated[
        bool, typer.Option("--other-prompt", help="accept a prompt other than the stored one")
    ] = False,
    grader: Annotated[
        str | None,
        typer.Option(help="other grader for --skill: its name, or YAML such as '{name: number, exact: true}'"),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="other columns for --skill, such as 'problem: question, solution: reply'")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the per-question records")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, an adapter or a base model on held-out files."""
    from keeptune.pipeline.evaluate_files import score_files, text
    from keeptune.pipeline.score_request import Request, parse_columns, parse_grader

    request = Request(
        skill,
        retained,
        split_names(abilities),
        suite,
        limit,
        out,
        parse_grader(parse_setting("--grader", grader)) if grader else None,
        parse_columns(parse_setting("--columns", f"{{{columns}}}")) if columns else None,
    )
    scored = score_files(target, request, prompt, other_prompt, context.obj)
    if scored is not None:
        show(json_text(scored) if as_json else text(scored))


def ask(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="run directory, adapter folder or model")],
    problem: Annotated[str, typer.Argument(help="problem text, as in the skill's rows")],
    as_json: AsJson = False,
) -> None:
    """Print the model's answer to one problem under the stored prompt."""
    from keeptune.pipeline.evaluate_files import ask_one

    answer = ask_one(target, problem)
    show(json_text(answer) if as_json else answer["output"])
